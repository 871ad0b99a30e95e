// pastur doctor: what it finds, what it calls bad, and that it leaves nothing behind.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "kernels/base/context.h"
#include "tests/support/command_line.h"
#include "tools/pastur/doctor/checks.h"

namespace pastur::test {
namespace {

class Doctor : public CommandLine {
  protected:
    nlohmann::json examined(const std::string& arguments, const std::string& environment, int code) const {
        const Result result = run("doctor --json d.json " + arguments, environment);
        EXPECT_EQ(result.code, code) << result.err;
        const nlohmann::json all = nlohmann::json::parse(read_file(file("d.json"), 1 << 20));
        for (const nlohmann::json& check : all.at("checks")) {
            EXPECT_NE(result.out.find(check.at("text").get<std::string>()), std::string::npos) << check;
            EXPECT_EQ(check.contains("advice"), check.at("state") != "good") << check;
        }
        return all;
    }
    static nlohmann::json finding(const nlohmann::json& all, const std::string& what) {
        for (const nlohmann::json& check : all.at("checks"))
            if (check.at("check") == what) return check;
        ADD_FAILURE() << what << " in " << all;
        return {};
    }
};

TEST_F(Doctor, LooksAtHostDeviceAndDisk) {
    fs::create_directory(file("runs"));
    const nlohmann::json all = examined("--device cpu --dir runs", "OMP_NUM_THREADS=1", 0);
    EXPECT_NE(all.at("state"), "bad");
    std::set<std::string> names;
    for (const nlohmann::json& check : all.at("checks")) names.insert(check.at("check"));
    for (const char* name : {"program", "cpu", "memory", "shared memory", "clock", "launcher", "sockets",
                             "LAPACK", "disk space", "disk speed", "fsync", "clock of the disk"})
        EXPECT_TRUE(names.contains(name)) << name;
    EXPECT_EQ(finding(all, "cpu").at("state"), "good");
    EXPECT_EQ(finding(all, "LAPACK").at("state"), "good");
    EXPECT_TRUE(fs::is_empty(file("runs")));
}

TEST_F(Doctor, WarnsOfMoreThreadsThanCores) {
    const nlohmann::json cpu = finding(examined("--device cpu", "OMP_NUM_THREADS=4000", 0), "cpu");
    EXPECT_EQ(cpu.at("state"), "warning");
    EXPECT_NE(cpu.at("advice").get<std::string>().find("OMP_NUM_THREADS"), std::string::npos) << cpu;
}

TEST_F(Doctor, WarnsWithoutALauncher) {
    EXPECT_EQ(finding(examined("--device cpu", "PATH=/nowhere", 0), "launcher").at("state"), "warning");
}

TEST_F(Doctor, RefusesAFolderThatCannotBeWritten) {
    const nlohmann::json disk = finding(examined("--device cpu --dir missing", "", 69), "disk");
    EXPECT_EQ(disk.at("state"), "bad");
    EXPECT_NE(disk.at("text").get<std::string>().find("missing: No such file"), std::string::npos) << disk;
    expect_failure("doctor --device gpu", 2, {"gpu", "auto", "cuda"});
}

TEST_F(Doctor, RefusesAMissingGpuThatIsAskedFor) {
    if (cuda_device_count() > 0) GTEST_SKIP() << "this machine has a GPU";
    EXPECT_EQ(finding(examined("--device cuda", "", 69), "gpu").at("state"), "bad");
    EXPECT_NE(finding(examined("--device auto", "", 0), "gpu").at("state"), "bad");
}

TEST(DoctorChecks, ComparesCusolverWithLapack) {
    if (cuda_device_count() == 0) GTEST_SKIP() << "needs a GPU";
    const std::vector<CheckOutcome> findings = check_devices(Device::kAuto);
    EXPECT_EQ(findings.back().what, "cuSOLVER");
    EXPECT_EQ(findings.back().state, CheckOutcome::State::kGood) << findings.back().text;
}

}  // namespace
}  // namespace pastur::test
