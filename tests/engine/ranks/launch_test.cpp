// How ranks learn from environment variables what they are.
#include "engine/ranks/launch.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "tests/support/expect_error.h"

namespace pastur::test {
namespace {

/// Sets the variables of a launch, with all others unset.
class Launches : public testing::Test {
  protected:
    void SetUp() override {
        for (const char* name : kNames) unsetenv(name);
    }
    void TearDown() override { SetUp(); }
    static Launch with(const std::map<std::string, std::string>& variables) {
        for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
        return detect_launch();
    }
    static constexpr const char* kNames[] = {
        "RANK",         "WORLD_SIZE",           "LOCAL_RANK",    "MASTER_ADDR",         "MASTER_PORT",
        "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "SLURM_JOB_ID"};
};

TEST_F(Launches, AreAloneWithoutVariables) {
    EXPECT_EQ(with({}).kind, Launch::Kind::kAlone);
    // The step of a batch script itself, and a world of one rank.
    EXPECT_EQ(with({{"SLURM_PROCID", "0"}, {"SLURM_JOB_ID", "7"}}).kind, Launch::Kind::kAlone);
    EXPECT_EQ(with({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).kind, Launch::Kind::kAlone);
}

TEST_F(Launches, ReadPlainVariables) {
    const Launch launch = with({{"RANK", "5"},
                                {"WORLD_SIZE", "8"},
                                {"LOCAL_RANK", "1"},
                                {"MASTER_ADDR", "n1"},
                                {"MASTER_PORT", "29500"}});
    EXPECT_EQ(launch.kind, Launch::Kind::kPlain);
    EXPECT_EQ(launch.rank, 5);
    EXPECT_EQ(launch.size, 8);
    EXPECT_EQ(launch.local_rank, 1);
    EXPECT_EQ(launch.address, "n1");
    EXPECT_EQ(launch.port, 29500);
}

TEST_F(Launches, ReadSlurmsVariables) {
    const Launch launch = with({{"SLURM_PROCID", "9"},
                                {"SLURM_STEP_NUM_TASKS", "16"},
                                {"SLURM_LOCALID", "1"},
                                {"SLURM_STEP_NODELIST", "gpu[03-05,9],login"},
                                {"SLURM_JOB_ID", "123456"}});
    EXPECT_EQ(launch.rank, 9);
    EXPECT_EQ(launch.size, 16);
    EXPECT_EQ(launch.local_rank, 1);
    EXPECT_EQ(launch.address, "gpu03");
    EXPECT_EQ(launch.port, 23456);
    EXPECT_EQ(first_host("login,gpu[1-2]"), "login");
    EXPECT_EQ(first_host("node[7]"), "node7");
    EXPECT_EQ(first_host("alone"), "alone");
}

TEST_F(Launches, NameWhatIsMissingOrWrong) {
    expect_error(ExitCode::kUsage, {"WORLD_SIZE is not set, but RANK is"}, [] { with({{"RANK", "0"}}); });
    expect_error(ExitCode::kUsage, {"RANK=2", "from 0 to 1"}, [] {
        with({{"RANK", "2"}, {"WORLD_SIZE", "2"}});
    });
    expect_error(ExitCode::kUsage, {"MASTER_PORT=x"}, [] {
        with({{"RANK", "0"}, {"LOCAL_RANK", "0"}, {"MASTER_ADDR", "n1"}, {"MASTER_PORT", "x"}});
    });
}

}  // namespace
}  // namespace pastur::test
