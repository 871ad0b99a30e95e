// How ranks find each other without MPI: environment variables and the sideband.
#include "engine/ranks/launch.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <map>
#include <thread>

#include "engine/ranks/sideband.h"
#include "tests/support/command_line.h"
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

/// A connection that sends nothing.
FileDescriptor connect_to_loopback(int port) {
    FileDescriptor made(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(made.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return made;
}

TEST(Sidebands, GatherFromEveryRank) {
    constexpr int kSize = 4;
    const Sideband::Listener listener(0);
    const auto gather = [](Sideband band) {
        return band.all_gather(std::string(band.rank() * 1000, 'a' + band.rank()));
    };
    std::vector<std::future<std::vector<std::string>>> others;
    for (int rank = 1; rank < kSize; ++rank)
        others.push_back(std::async(std::launch::async, [&, rank] {
            return gather(Sideband::join(rank, kSize, {"192.0.2.1", "127.0.0.1"}, listener.port(), 42, 20));
        }));
    const std::vector<std::string> at_root = gather(Sideband::host(listener, kSize, 42, 20));
    ASSERT_EQ(at_root.size(), 4u);
    EXPECT_EQ(at_root[3], std::string(3000, 'd'));
    for (auto& other : others) EXPECT_EQ(other.get(), at_root);
}

TEST(Sidebands, KnowTheirJobAndNameWhoIsMissing) {
    const Sideband::Listener listener(0);
    auto stranger = std::async(std::launch::async, [&] {
        expect_error(ExitCode::kRankLost, {"rank 1 of 3 found no rank 0", "127.0.0.1"},
                     [&] { Sideband::join(1, 3, {"127.0.0.1"}, listener.port(), 7, 1); });
    });
    auto member = std::async(std::launch::async, [&] {
        return Sideband::join(2, 3, {"127.0.0.1"}, listener.port(), 42, 10).rank();
    });
    expect_error(ExitCode::kRankLost, {"1 of 3 ranks did not connect", ": 1"},
                 [&] { Sideband::host(listener, 3, 42, 2); });
    stranger.wait();
    EXPECT_EQ(member.get(), 2);
}

TEST(Sidebands, KeepTheirDeadlineHoweverManyStrangersConnect) {
    const Sideband::Listener listener(0);
    std::atomic<bool> done = false;
    auto strangers = std::async(std::launch::async, [&] {
        std::vector<FileDescriptor> silent;
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(12);
        while (!done && std::chrono::steady_clock::now() < end) {
            silent.push_back(connect_to_loopback(listener.port()));
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
    });
    const auto begin = std::chrono::steady_clock::now();
    expect_error(ExitCode::kRankLost, {"1 of 2 ranks did not connect"},
                 [&] { Sideband::host(listener, 2, 42, 1.5); });
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
    done = true;
}

TEST(Sidebands, LetNoStrangerDelayARank) {
    const Sideband::Listener listener(0);
    std::vector<FileDescriptor> silent;
    for (int i = 0; i < 5; ++i) silent.push_back(connect_to_loopback(listener.port()));
    auto member = std::async(std::launch::async, [&] {
        return Sideband::join(1, 2, {"127.0.0.1"}, listener.port(), 42, 4).rank();
    });
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(Sideband::host(listener, 2, 42, 4).size(), 2);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2)) << "5 strangers of 2 s each";
    EXPECT_EQ(member.get(), 1);
}

TEST_F(CommandLine, CpuRanksNeedMpi) {
    write("r.toml", "[data]\ndir = \"nowhere\"\n");
    const std::string line = "MASTER_ADDR=127.0.0.1 MASTER_PORT=29417 WORLD_SIZE=2 '" + binary().string() +
                             "' train r.toml --device cpu";
    const Result result = shell("{ RANK=1 LOCAL_RANK=1 " + line + " 2> other & RANK=0 LOCAL_RANK=0 " + line +
                                "; code=$?; wait; exit $code; }");
    EXPECT_EQ(result.code, 2) << result.err;
    EXPECT_NE(result.err.find("2 ranks were started by variables alone"), std::string::npos) << result.err;
    expect_failure("train r.toml --device cpu --comm nccl", 2, {"--comm nccl needs GPUs"});
    expect_failure("train r.toml --device cpu --comm tcp", 2, {"--comm tcp", "auto, mpi or nccl"});
}

}  // namespace
}  // namespace pastur::test
