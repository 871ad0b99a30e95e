#include "kernels/base/host_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace pastur {

namespace fs = std::filesystem;

namespace {

/// The number that begins a file; -1: there is none, such as in memory.max that says "max".
int64_t read_number(const fs::path& path) {
    std::ifstream file(path);
    int64_t value = 0;
    return file >> value ? value : -1;
}

/// The value of a line "<key> <value> ..."; 0: there is none.
int64_t read_field(const fs::path& path, const std::string& wanted) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        std::istringstream in(line);
        std::string key;
        int64_t value = 0;
        if (in >> key >> value && key == wanted) return value;
    }
    return 0;
}

/// Names of the files of a version of memory cgroups.
struct CgroupFiles {
    const char *limit, *used, *reclaimable;
};
constexpr CgroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr CgroupFiles kVersion2{"memory.max", "memory.current", "inactive_file"};

/// A hierarchy of cgroups that accounts for memory.
struct Hierarchy {
    const CgroupFiles* files;
    std::string path;   ///< of this process, from the hierarchy's root
    std::string root;   ///< the part of the hierarchy that is mounted
    std::string mount;  ///< where
};

bool lists(const std::string& names, const std::string& wanted) {
    std::istringstream in(names);
    for (std::string name; std::getline(in, name, ',');)
        if (name == wanted) return true;
    return false;
}

/// /proc/self/mountinfo writes a blank in a path as \040.
std::string unescaped(std::string text) {
    for (size_t at = 0; (at = text.find('\\', at)) != text.npos && at + 4 <= text.size(); ++at)
        text.replace(at, 4, 1, static_cast<char>(std::strtol(text.substr(at + 1, 3).c_str(), nullptr, 8)));
    return text;
}

void find_mount(const fs::path& root, Hierarchy& hierarchy) {
    std::ifstream mounts(root / "proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);) {
        // 36 35 98:0 <root> <mount point> <options> [fields] - <type> <source> <super options>
        const size_t dash = line.find(" - ");
        if (dash == std::string::npos) continue;
        std::istringstream front(line.substr(0, dash)), back(line.substr(dash + 3));
        std::string skipped, mounted, point, type, source, options;
        front >> skipped >> skipped >> skipped >> mounted >> point;
        back >> type >> source >> options;
        const bool wanted =
            hierarchy.files == &kVersion2 ? type == "cgroup2" : type == "cgroup" && lists(options, "memory");
        if (!wanted) continue;
        hierarchy.root = unescaped(mounted);
        hierarchy.mount = unescaped(point);
    }
}

std::vector<Hierarchy> memory_hierarchies(const fs::path& root) {
    std::vector<Hierarchy> found;
    std::ifstream own(root / "proc/self/cgroup");
    for (std::string line; std::getline(own, line);) {
        // "0::/path" is of version 2, "7:memory:/path" and "4:cpu,memory:/path" are of version 1.
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        if (!controllers.empty() && !lists(controllers, "memory")) continue;
        found.push_back({controllers.empty() ? &kVersion2 : &kVersion1, line.substr(second + 1), "", ""});
        find_mount(root, found.back());
        if (found.back().mount.empty()) found.pop_back();
    }
    return found;
}

/// The folders of this process's cgroup and of those that contain it, up to the mount point.
std::vector<fs::path> folders_of(const fs::path& root, const Hierarchy& hierarchy) {
    const fs::path mount = root / fs::path(hierarchy.mount).relative_path();
    // In a container the mounted part is often the container's own cgroup.
    const fs::path below = fs::path(hierarchy.path).lexically_relative(hierarchy.root);
    std::vector<fs::path> folders = {mount};
    if (below.empty() || *below.begin() == "..") return folders;
    fs::path folder = mount;
    for (const fs::path& part : below)
        if (part != ".") folders.push_back(folder /= part);
    return folders;
}

void bound(MemoryInfo& memory, int64_t limit, int64_t used) {
    if (limit < 0) return;
    memory.total_bytes = std::min(memory.total_bytes, limit);
    memory.free_bytes = std::min(memory.free_bytes, std::max<int64_t>(0, limit - used));
}

void bound_by_limits(MemoryInfo& memory, const fs::path& root, const ProcessLimits& limits) {
    std::ifstream file(root / "proc/self/statm");
    int64_t size = 0, resident = 0, shared = 0, text = 0, unused = 0, data = 0;  // pages
    if (!(file >> size >> resident >> shared >> text >> unused >> data)) return;
    const int64_t page = ::sysconf(_SC_PAGESIZE);
    bound(memory, limits.address_space, size * page);
    bound(memory, limits.data, data * page);
}

}  // namespace

ProcessLimits process_limits() {
    const auto limit = [](auto resource) -> int64_t {
        rlimit bounds{};
        if (::getrlimit(resource, &bounds) != 0 || bounds.rlim_cur == RLIM_INFINITY) return -1;
        return static_cast<int64_t>(std::min<rlim_t>(bounds.rlim_cur, INT64_MAX));
    };
    return {limit(RLIMIT_AS), limit(RLIMIT_DATA)};
}

int64_t bytes_under_limits(const fs::path& root, const ProcessLimits& limits) {
    MemoryInfo memory{INT64_MAX, INT64_MAX};
    bound_by_limits(memory, root, limits);
    return memory.free_bytes == INT64_MAX ? -1 : memory.free_bytes;
}

MemoryInfo read_host_memory(const fs::path& root, const ProcessLimits& limits) {
    MemoryInfo memory{read_field(root / "proc/meminfo", "MemAvailable:"),
                      read_field(root / "proc/meminfo", "MemTotal:")};
    memory.free_bytes *= 1024;
    memory.total_bytes *= 1024;
    for (const Hierarchy& hierarchy : memory_hierarchies(root))
        for (const fs::path& folder : folders_of(root, hierarchy)) {
            const int64_t used = read_number(folder / hierarchy.files->used);
            if (used < 0) continue;
            const int64_t files = read_field(folder / "memory.stat", hierarchy.files->reclaimable);
            bound(memory, read_number(folder / hierarchy.files->limit), std::max<int64_t>(0, used - files));
        }
    bound_by_limits(memory, root, limits);
    return memory;
}

MemoryInfo host_memory_info() {
    return read_host_memory("/", process_limits());
}

}  // namespace pastur
