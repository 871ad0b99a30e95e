// GPU ranks: over NCCL, started by environment variables, and over MPI, where they may share a GPU.
#include "kernels/base/context.h"
#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class GpuRanks : public SmallRuns {
  protected:
    /// Whether there are this many GPUs; if so, sets up the data that runs read.
    bool have(int gpus) {
        if (cuda_device_count() < gpus) return false;
        SmallRuns::SetUp();
        return true;
    }
    void SetUp() override {}

    std::string train_line(const std::string& run, const std::string& more) const {
        return "'" + binary().string() + "' train r.toml --device cuda --run " + run + " " + more;
    }
    /// Starts two ranks by environment variables. Returns rank 0's result; rank 1's is in files out1, err1 and code1.
    /// `then` runs meanwhile, with the process ids in $p0 and $p1.
    Result two(const std::string& run, const std::string& more, const std::string& then = "true") const {
        const std::string variables =
            "PASTUR_SECRET=0123456789abcdef MASTER_ADDR=127.0.0.1 MASTER_PORT=29423 WORLD_SIZE=2 ";
        const auto rank = [&](int number) {
            return fmt::format("{}RANK={} LOCAL_RANK={} {}", variables, number, number,
                               train_line(run, more));
        };
        return shell("{ " + rank(1) + " > out1 2> err1 & p1=$!; " + rank(0) + " & p0=$!; " + then +
                     "; wait $p0; code=$?; date +%s > ended; wait $p1; echo $? > code1; exit $code; }");
    }
    void expect_two(const std::string& run, const std::string& more) const {
        const Result result = two(run, more);
        ASSERT_EQ(result.code, 0) << result.err << read_file(file("err1"), 1 << 20);
        EXPECT_EQ(read_file(file("code1"), 16), "0\n");
    }
};

constexpr const char* kOrdered = "--train.deterministic_comm=true ";

TEST_F(GpuRanks, OneGoesThroughTheSameCode) {
    if (!have(1)) GTEST_SKIP() << "1 GPU needed";
    for (const std::string comm : {"auto", "nccl"}) {
        const Result result = shell(train_line(comm, kOrdered + std::string("--comm ") + comm));
        ASSERT_EQ(result.code, 0) << result.err;
    }
    EXPECT_EQ(losses("nccl"), losses("auto"));
    EXPECT_EQ(weights("nccl"), weights("auto"));
}

TEST_F(GpuRanks, NcclRefusesTwoOnOneGpu) {
    if (!have(1)) GTEST_SKIP() << "1 GPU needed";
    setenv("CUDA_VISIBLE_DEVICES", "0", 1);
    const Result refused = two("run", "");
    unsetenv("CUDA_VISIBLE_DEVICES");
    EXPECT_EQ(refused.code, 69) << refused.err;
    EXPECT_NE(refused.err.find("ranks 0 and 1 would share a GPU"), std::string::npos) << refused.err;
    EXPECT_NE(refused.err.find("--comm mpi"), std::string::npos) << refused.err;
}

TEST_F(GpuRanks, MpiLetsTwoShareAGpu) {
    if (!have(1)) GTEST_SKIP() << "1 GPU needed";
    if (std::system("mpirun --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no mpirun";
    ASSERT_EQ(shell(train_line("one", kOrdered)).code, 0);
    const std::string mpirun =
        "CUDA_VISIBLE_DEVICES=0 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
        "OMPI_MCA_orte_tmpdir_base=\"$PWD\" mpirun -q --oversubscribe --bind-to none -np 2 ";
    for (const std::string zero : {"0", "1"}) {
        const std::string more = kOrdered + std::string("--comm mpi --train.zero=") + zero;
        const Result result = shell(mpirun + train_line("shared" + zero, more));
        ASSERT_EQ(result.code, 0) << result.err;
        EXPECT_EQ(losses("shared" + zero), losses("one"));
        EXPECT_EQ(weights("shared" + zero), weights("one"));
    }
}

TEST_F(GpuRanks, TwoTrainAsOne) {
    if (!have(2)) GTEST_SKIP() << "2 GPUs needed";
    ASSERT_EQ(shell(train_line("one", "")).code, 0);
    expect_two("two", "");
    const std::vector<double> one = losses("one"), both = losses("two");
    ASSERT_EQ(both.size(), one.size());
    for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(both[i], one[i], 1e-2) << "step " << i + 1;
    expect_two("parts", "--train.zero=1");
    EXPECT_EQ(losses("parts"), losses("two"));
    EXPECT_EQ(weights("parts"), weights("two"));
    // NCCL moves what this program sums, in the order in which it sums what MPI moves.
    expect_two("narrow", "--train.comm_dtype=bf16");
    EXPECT_NE(weights("narrow"), weights("two"));
    expect_two("narrow-parts", "--train.comm_dtype=bf16 --train.zero=1");
    EXPECT_EQ(weights("narrow-parts"), weights("narrow"));
    // In "two", a rank replays its first micro-batch as a graph and launches the kernels of the second one by one.
    expect_two("launched", "--train.cuda_graph=false");
    EXPECT_EQ(losses("launched"), losses("two"));
    EXPECT_EQ(weights("launched"), weights("two"));
}

TEST_F(GpuRanks, TwoGiveTheBitsOfOneUnderDeterministicComm) {
    if (!have(2)) GTEST_SKIP() << "2 GPUs needed";
    ASSERT_EQ(shell(train_line("one", kOrdered)).code, 0);
    for (const std::string zero : {"0", "1"}) {
        expect_two("two" + zero, kOrdered + std::string("--train.zero=") + zero);
        EXPECT_EQ(losses("two" + zero), losses("one"));
        EXPECT_EQ(weights("two" + zero), weights("one"));
    }
}

TEST_F(GpuRanks, AStoppedOneEndsTheOther) {
    if (!have(2)) GTEST_SKIP() << "2 GPUs needed";
    const Result result =
        two("run", "--train.steps=1000000 --train.val_every=0 --diagnostics.every=0 --train.comm_timeout_s=3",
            "until grep -qs '\"event\":\"train\",\"step\":3' run/metrics.jsonl; do sleep 0.1; done; "
            "kill -STOP $p1; date +%s > stopped; { (sleep 12; kill -KILL $p1) & }");
    EXPECT_EQ(result.code, 71) << result.err;
    EXPECT_NE(result.err.find("rank 1 (host "), std::string::npos) << result.err;
    EXPECT_LE(std::stoll(read_file(file("ended"), 64)) - std::stoll(read_file(file("stopped"), 64)), 3 + 5);
}

TEST_F(GpuRanks, OneLostDuringNcclsInitialisationEndsTheOther) {
    if (!have(2)) GTEST_SKIP() << "2 GPUs needed";
    for (const std::string signal : {"STOP", "KILL"}) {
        // Rank 1 loads NCCL right before it initialises it.
        const Result result =
            two("run" + signal, "--train.comm_timeout_s=3",
                "until grep -qs libnccl /proc/$p1/maps || ! kill -0 $p1; do :; done; kill -" + signal +
                    " $p1; date +%s > stopped; { (sleep 12; kill -KILL $p1) & }");
        EXPECT_EQ(result.code, 71) << result.err;
        EXPECT_NE(result.err.find("rank 1 (host "), std::string::npos) << result.err;
        EXPECT_EQ(result.out.find("step 1/"), std::string::npos) << result.out;
        EXPECT_LE(std::stoll(read_file(file("ended"), 64)) - std::stoll(read_file(file("stopped"), 64)),
                  3 + 5);
    }
}

}  // namespace
}  // namespace pastur::test
