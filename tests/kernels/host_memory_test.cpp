// Free host memory: the machine's, bounded by cgroups of both versions and by limits of the process.
#include "kernels/base/host_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMiB = 1 << 20;

class HostMemory : public testing::Test {
  protected:
    HostMemory() { put("proc/meminfo", "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n"); }

    void put(const std::string& name, const std::string& text) const {
        const fs::path path = folder_.path() / name;
        fs::create_directories(path.parent_path());
        std::ofstream(path) << text;
    }
    void put_v2(const std::string& folder, const std::string& limit, int64_t used, int64_t files = 0) const {
        put(folder + "/memory.max", limit + "\n");
        put(folder + "/memory.current", std::to_string(used) + "\n");
        put(folder + "/memory.stat", "anon 1\nfile 7\ninactive_file " + std::to_string(files) + "\nslab 5\n");
    }
    void expect(int64_t free, int64_t total, const ProcessLimits& limits = {}) const {
        const MemoryInfo memory = read_host_memory(folder_.path(), limits);
        EXPECT_EQ(memory.free_bytes, free);
        EXPECT_EQ(memory.total_bytes, total);
    }
    void mount_v2(const std::string& root = "/") const {
        put("proc/self/mountinfo",
            "24 1 0:22 / /proc rw - proc proc rw\n30 23 0:26 " + root +
                " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    }

    test::TempFolder folder_;
};

TEST_F(HostMemory, IsTheMachinesWithoutACgroup) {
    expect(2 * kMiB, 4 * kMiB);
    put("proc/self/cgroup", "0::/user\n");
    expect(2 * kMiB, 4 * kMiB);
    mount_v2();
    put_v2("sys/fs/cgroup/user", "max", kMiB);
    expect(2 * kMiB, 4 * kMiB);
}

TEST_F(HostMemory, IsBoundedByEveryLevelOfVersion2) {
    mount_v2();
    put("proc/self/cgroup", "0::/slurm/job_7/step_0\n");
    put_v2("sys/fs/cgroup/slurm", "max", 3 * kMiB);
    put_v2("sys/fs/cgroup/slurm/job_7", std::to_string(kMiB), kMiB / 4);
    put_v2("sys/fs/cgroup/slurm/job_7/step_0", "max", 1000);
    put_v2("sys/fs/cgroup/slurm/job_8", "1", 1);  // not ours
    expect(kMiB * 3 / 4, kMiB);
    put_v2("sys/fs/cgroup/slurm/job_7/step_0", std::to_string(kMiB / 2), kMiB / 2);
    expect(0, kMiB / 2);
    put_v2("sys/fs/cgroup/slurm/job_7/step_0", std::to_string(kMiB / 2), kMiB / 2, kMiB / 8);
    expect(kMiB / 8, kMiB / 2);  // the system reclaims pages of files
    put_v2("sys/fs/cgroup/slurm/job_7/step_0", "1000", 2000);
    expect(0, 1000);
}

TEST_F(HostMemory, IsBoundedInAContainer) {
    // A container may see its own cgroup as the root, or the path on the host.
    put_v2("sys/fs/cgroup", std::to_string(kMiB), 1000);
    mount_v2();
    put("proc/self/cgroup", "0::/\n");
    expect(kMiB - 1000, kMiB);
    mount_v2("/docker/abc");
    put("proc/self/cgroup", "0::/docker/abc\n");
    expect(kMiB - 1000, kMiB);
    put("proc/self/cgroup", "0::/docker/abc/child\n");
    put_v2("sys/fs/cgroup/child", "5000", 1000);
    expect(4000, 5000);
    put("proc/self/cgroup", "0::/../elsewhere\n");
    expect(kMiB - 1000, kMiB);
}

TEST_F(HostMemory, IsBoundedByEveryLevelOfVersion1) {
    put("proc/self/mountinfo",
        "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "35 31 0:32 / /sys/fs/cgroup/cpu\\040memory rw - cgroup cgroup rw,cpuset,memory\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("proc/self/cgroup", "9:name=systemd:/x\n4:cpuset,memory:/a/b\n1:cpu:/other\n0::/\n");
    const std::string memory = "sys/fs/cgroup/cpu memory/";
    for (const char* level : {"", "a/", "a/b/"}) {
        put(memory + level + "memory.limit_in_bytes", "9223372036854771712\n");
        put(memory + level + "memory.usage_in_bytes", "4096\n");
        put(memory + level + "memory.stat", "cache 1\ninactive_file 5\ntotal_inactive_file 96\n");
    }
    put("sys/fs/cgroup/cpu/other/memory.limit_in_bytes", "1\n");
    expect(2 * kMiB, 4 * kMiB);
    put(memory + "a/memory.limit_in_bytes", "100000\n");
    expect(96000, 100000);
    put(memory + "a/b/memory.limit_in_bytes", "5000\n");
    expect(1000, 5000);
}

TEST_F(HostMemory, IsBoundedByLimitsOfTheProcess) {
    put("proc/self/statm", "20 9 8 7 0 10 0\n");
    const int64_t page = ::sysconf(_SC_PAGESIZE);
    expect(10 * page, 30 * page, {.address_space = 30 * page});
    expect(5 * page, 15 * page, {.address_space = 30 * page, .data = 15 * page});
    expect(0, page, {.address_space = page});
    EXPECT_EQ(bytes_under_limits(folder_.path(), {}), -1);
    EXPECT_EQ(bytes_under_limits(folder_.path(), {.data = 15 * page}), 5 * page);
}

TEST_F(HostMemory, OfThisMachineIsPlausible) {
    const MemoryInfo memory = host_memory_info();
    EXPECT_GT(memory.free_bytes, 0);
    EXPECT_LE(memory.free_bytes, memory.total_bytes);
}

}  // namespace
}  // namespace pastur
