// CPU ranks that were started by variables alone: no mpirun, tensors over TCP.
#include <future>

#include "engine/ranks/handshake.h"
#include "engine/ranks/rendezvous.h"
#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class PlainRanks : public SmallRuns {
  protected:
    static std::string variables(int rank, int ranks, int port, const std::string& secret = kSecret) {
        return fmt::format(
            "OMP_NUM_THREADS=1 PASTUR_SECRET={} MASTER_ADDR=127.0.0.1 MASTER_PORT={} WORLD_SIZE={} RANK={} "
            "LOCAL_RANK={} ",
            secret, port, ranks, rank, rank);
    }
    std::string train_line(const std::string& run, const std::string& more = "") const {
        return "'" + binary().string() + "' train r.toml --device cpu --run " + run + " " + more;
    }
    /// A port that no process listens on.
    static int free_port() { return Listener("127.0.0.1", 0).port(); }
    /// Returns rank 0's result. The file code1 has the exit code of rank 1, and seen1 lists the run folder at its
    /// exit.
    Result train(int ranks, const std::string& run, const std::string& more = "") const {
        const int port = free_port();
        std::string line;
        for (int rank = ranks - 1; rank > 0; --rank)
            line +=
                fmt::format("{{ {}{} > out{} 2> err{}; echo $? > code{}; ls {} > seen{}; }} & ",
                            variables(rank, ranks, port), train_line(run, more), rank, rank, rank, run, rank);
        return shell("{ " + line + variables(0, ranks, port) + train_line(run, more) +
                     "; code=$?; wait; exit $code; }");
    }
    static constexpr const char* kSecret = "0123456789abcdef";
};

TEST_F(PlainRanks, TrainToTheBitsOfOneUnderDeterministicComm) {
    const std::string ordered = "--train.deterministic_comm=true --train.global_batch=12 ";
    ASSERT_EQ(train(1, "one", ordered).code, 0);
    for (const auto& [ranks, more] : {std::pair(2, ""), std::pair(3, ""), std::pair(3, "--train.zero=1")}) {
        const std::string run = fmt::format("run{}{}", ranks, more);
        const Result result = train(ranks, run, ordered + more);
        ASSERT_EQ(result.code, 0) << result.err;
        EXPECT_EQ(losses(run), losses("one")) << run;
        EXPECT_EQ(weights(run), weights("one")) << run;
    }
}

#if defined(PASTUR_HAVE_MPI)
TEST_F(PlainRanks, TrainToTheBitsOfMpiRanks) {
    const std::string settings[] = {"", "--train.zero=1", "--train.comm_dtype=bf16",
                                    "--train.comm_dtype=bf16 --train.zero=1"};
    for (size_t i = 0; i < std::size(settings); ++i) {
        const std::string tcp = fmt::format("tcp{}", i), mpi = fmt::format("mpi{}", i);
        ASSERT_EQ(train(2, tcp, settings[i]).code, 0);
        ASSERT_EQ(shell(Ranks::launcher(2) + train_line(mpi, settings[i])).code, 0);
        EXPECT_EQ(losses(tcp), losses(mpi));
        EXPECT_EQ(weights(tcp), weights(mpi));
        EXPECT_EQ(losses(tcp, "val"), losses(mpi, "val"));
    }
    EXPECT_NE(weights("tcp2"), weights("tcp0"));
    EXPECT_EQ(weights("tcp3"), weights("tcp2"));
}
#endif

/// A launcher may end the job when the first rank exits.
TEST_F(PlainRanks, EndTogetherOnceRankZeroHasWrittenEverything) {
    // The hook outlasts the timeout, which bounds silence and collectives alone.
    const Result done = train(3, "done",
                              "--train.global_batch=12 --train.comm_timeout_s=2 "
                              "--run.hook='sleep 3; touch \"$PASTUR_RUN\"/hooked'");
    ASSERT_EQ(done.code, 0) << done.err;
    for (const char* seen : {"seen1", "seen2"}) {
        const std::string at_exit = read_file(file(seen), 4096);
        EXPECT_NE(at_exit.find("hooked"), std::string::npos) << at_exit;
        EXPECT_NE(at_exit.find("report.html"), std::string::npos) << at_exit;
    }
    EXPECT_EQ(read_file(file("code1"), 16), "0\n");
    // A stop and a non-finite loss end the run by other paths.
    fs::create_directory(file("stopped"));
    write("stopped/STOP", "");
    const std::string slow = " --run.hook='sleep 1; touch \"$PASTUR_RUN\"/hooked'";
    EXPECT_EQ(train(2, "stopped", slow).code, 75);
    EXPECT_NE(read_file(file("seen1"), 4096).find("hooked"), std::string::npos);
    EXPECT_EQ(train(2, "lost",
                    "--train.lr=1e30 --train.warmup_steps=0 --train.grad_clip=0 --checkpoint.every=1" + slow)
                  .code,
              72);
    EXPECT_EQ(events("lost", "end").size(), 1u);
}

TEST_F(PlainRanks, StartAndEndRightAmongIdleAndLyingConnections) {
    const int port = free_port();
    auto root =
        std::async(std::launch::async, [&] { return shell(variables(0, 2, port) + train_line("run")).code; });
    std::vector<FileDescriptor> strangers;
    std::string why;
    const auto end = deadline_in(60);
    while (strangers.size() < 5 && Clock::now() < end) {
        FileDescriptor made = connect_to("127.0.0.1", port, 1, why);
        if (made)
            strangers.push_back(std::move(made));
        else
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ASSERT_EQ(strangers.size(), 5u) << why;
    Claim lie;
    lie.rank = 1;
    lie.size = 2;
    ASSERT_TRUE(send_all(strangers[4].get(), &lie, sizeof lie, deadline_in(5)));
    // A rank with another secret ends at once; rank 0 keeps waiting for its own.
    const auto rank_1 = [&](const std::string& secret) {
        const std::string line = "cd '" + folder_.path().string() + "' && " + variables(1, 2, port, secret) +
                                 train_line("run") + " > out1 2> err1";
        return WEXITSTATUS(std::system(line.c_str()));
    };
    const auto begin = Clock::now();
    EXPECT_EQ(rank_1("another-secret-of-16"), 2);
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
    const std::string said = read_file(file("err1"), 4096);
    EXPECT_NE(said.find("rank 1 of 2 was refused by rank 0 at 127.0.0.1"), std::string::npos) << said;
    EXPECT_NE(said.find("wrong secret"), std::string::npos) << said;
    EXPECT_EQ(rank_1(kSecret), 0) << read_file(file("err1"), 4096);
    EXPECT_EQ(root.get(), 0) << read_file(file("err"), 4096);
    EXPECT_EQ(losses("run").size(), static_cast<size_t>(kSteps));
}

TEST_F(PlainRanks, EndAtOnceWhenOneIsKilled) {
    const int port = free_port();
    const std::string endless =
        "--train.steps=1000000 --train.val_every=0 --diagnostics.every=0 --run.log_every=1000";
    const Result result =
        shell("{ " + variables(1, 2, port) + train_line("run", endless) + " > out1 2> err1 & p1=$!; " +
              variables(0, 2, port) + train_line("run", endless) +
              " & p0=$!; until grep -qs '\"event\":\"train\",\"step\":1,' "
              "run/metrics.jsonl; do sleep 0.1; done; kill -KILL $p1; wait $p0; }");
    EXPECT_EQ(result.code, 71) << result.err;
    EXPECT_NE(result.err.find("rank 1 (" + own_place().substr(0, own_place().find(','))), std::string::npos)
        << result.err;
}

TEST_F(PlainRanks, EndWhenOneDiesBeforeTraining) {
    // Rank 1 waits for its recipe.
    const int port = free_port();
    const Result result = shell(
        "mkfifo slow.toml; { " + variables(1, 2, port) + "'" + binary().string() +
        "' train slow.toml > out1 2> err1 & p1=$!; " + variables(0, 2, port) + train_line("run") +
        " & p0=$!; until [ $(ls -l /proc/$p1/fd | grep -c socket) -ge 3 ]; do sleep 0.1; done; sleep 0.5; "
        "kill -KILL $p1; wait $p0; }");
    EXPECT_EQ(result.code, 71) << result.err;
    EXPECT_NE(result.err.find("rank 1 (" + own_place().substr(0, own_place().find(','))), std::string::npos)
        << result.err;
}

TEST_F(PlainRanks, KnowWhatTheyCanUse) {
    const auto expect_usage = [&](const std::string& more, const std::string& text) {
        const Result result = train(2, "run", more);
        EXPECT_EQ(result.code, 2) << result.err;
        EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
        EXPECT_EQ(read_file(file("code1"), 16), "2\n");
    };
    expect_usage("--comm mpi", "--comm mpi needs ranks that mpirun or srun --mpi=pmix started");
    expect_usage("--comm nccl", "--comm nccl needs GPUs");
    expect_usage("--comm udp", "--comm udp: expected auto, mpi, nccl or tcp");
}

}  // namespace
}  // namespace pastur::test
