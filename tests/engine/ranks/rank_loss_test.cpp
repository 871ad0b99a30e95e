// How a job ends, and what it prints, when a rank dies, hangs or is told to stop.
#if defined(PASTUR_HAVE_MPI)
#include <chrono>
#include <thread>

#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class RankLoss : public Ranks {
  protected:
    /// Trains endlessly on `ranks` ranks and, after the first step, runs `then` with mpirun's process id in $mp and
    /// those of the ranks in $1, $2, ... Returns mpirun's result.
    Result train_until(int ranks, const std::string& then, const std::string& variables = "") const {
        return shell(
            "{ " + variables + launcher(ranks) + train_line("run", kEndless) +
            " & mp=$!; until grep -qs '\"event\":\"train\",\"step\":1,' run/metrics.jsonl; do sleep 0.1; "
            "done; set -- $(cat /proc/$mp/task/*/children); " +
            then + "; wait $mp; }");
    }
    /// No process of the job is left, except for zombies.
    void expect_no_orphan() const {
        size_t alive = 1;
        for (int tries = 0; alive > 0 && tries < 20; ++tries) {
            if (tries > 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
            alive = 0;
            for (const fs::directory_entry& process : fs::directory_iterator("/proc")) {
                std::error_code not_ours;
                alive += fs::read_symlink(process.path() / "exe", not_ours) == binary() &&
                         fs::read_symlink(process.path() / "cwd", not_ours) == folder_.path();
            }
        }
        EXPECT_EQ(alive, 0u);
    }
    /// With few console lines, because mpirun reads none once it is told to end.
    const std::string kEndless =
        "--train.steps=1000000 --train.micro_batch=1 --train.global_batch=24 "
        "--train.val_every=0 --diagnostics.every=0 --train.comm_timeout_s=2 --run.log_every=1000";
};

TEST_F(RankLoss, AKilledRankEndsTheOthersAtOnce) {
    for (const auto& [ranks, victim] : {std::pair(3, 1), std::pair(4, 3), std::pair(8, 6)}) {
        fs::remove_all(file("run"));
        const Result result =
            train_until(ranks, fmt::format("date +%s > killed; kill -KILL ${}", victim + 1));
        const Result seconds = shell("echo $(($(date +%s) - $(cat killed)))");
        EXPECT_LE(std::stoi(seconds.out), 5) << ranks << " ranks";
        // mpirun itself exits with 137 if a signal killed a rank, whatever the exit codes of the others.
        EXPECT_TRUE(result.code == 71 || result.code == 137) << result.code;
        EXPECT_NE(result.err.find(fmt::format("rank {} (host ", victim)), std::string::npos) << result.err;
        EXPECT_NE(result.err.find("its connection closed: it was killed or crashed; last seen in step "),
                  std::string::npos)
            << result.err;
        expect_no_orphan();
    }
}

TEST_F(RankLoss, AStoppedRankEndsTheOthersWithinTheTimeout) {
    for (const auto& [ranks, victim] : {std::pair(2, 0), std::pair(4, 1), std::pair(8, 7)}) {
        fs::remove_all(file("run"));
        const Result result =
            train_until(ranks, fmt::format("date +%s > stopped; kill -STOP ${}", victim + 1));
        const Result seconds = shell("echo $(($(date +%s) - $(cat stopped)))");
        EXPECT_EQ(result.code, 71) << result.err;
        EXPECT_LE(std::stoi(seconds.out), 2 + 5);
        EXPECT_NE(result.err.find(fmt::format("rank {} (host ", victim)), std::string::npos) << result.err;
        EXPECT_NE(result.err.find("no sign of life for 2"), std::string::npos) << result.err;
        expect_no_orphan();
    }
}

TEST_F(RankLoss, AJobThatWasStoppedAndContinuesLosesNoRank) {
    const Result result = train_until(
        2, "kill -STOP $@; sleep 4; kill -CONT $@; sleep 3; touch run/STOP; kill -0 $mp || echo ended >&2");
    EXPECT_EQ(result.code, 75) << result.err;
    EXPECT_EQ(result.err.find("ended"), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("is lost"), std::string::npos) << result.err;
}

TEST_F(RankLoss, TermToMpirunSavesAndUsr1RequeuesToo) {
    // Open MPI 4.1.6 of Ubuntu 24.04 forwarded no SIGUSR1 where this was tried; 4.1.4 of Debian 12 does.
    const Result forwarded =
        shell("{ " + launcher(1) +
              "sh -c 'trap \"exit 3\" USR1; touch up; for i in $(seq 50); do sleep 0.1; done' & "
              "mp=$!; until [ -e up ]; do sleep 0.1; done; kill -USR1 $mp; wait $mp; }");
    if (forwarded.code != 3) GTEST_SKIP() << "this mpirun forwards no SIGUSR1";
    const Result asked = train_until(2, "kill -USR1 $mp");
    EXPECT_EQ(asked.code, 75) << asked.err;
    const int64_t saved = events("run", "end").at(0).at("step");
    EXPECT_EQ(events("run", "end").at(0).at("status"), "requeue");
    EXPECT_TRUE(fs::exists(checkpoint("run", saved) + "/MANIFEST.json"));

    fs::remove_all(file("run"));
    // mpirun's own exit code is 1. Its default grace of one second may be too short on a busy disk.
    train_until(2, "kill -TERM $mp", "OMPI_MCA_odls_base_sigkill_timeout=5 ");
    ASSERT_EQ(events("run", "end").size(), 1u) << "the grace of five seconds was too short";
    EXPECT_EQ(events("run", "end")[0].at("status"), "requeue");
    expect_no_orphan();
}

TEST_F(RankLoss, ARankThatFailsTakesTheOthersWithItsCode) {
    // Rank 1 alone cannot read its recipe.
    const Result result = shell(launcher(2) +
                                "sh -c 'if [ $OMPI_COMM_WORLD_RANK = 1 ]; then mkdir -p other; cd other; fi; "
                                "exec \"$0\" train \"$PWD/r.toml\" --device cpu --run run' '" +
                                binary().string() + "'");
    EXPECT_EQ(result.code, 66) << result.err;
    EXPECT_NE(result.err.find("rank 1: "), std::string::npos) << result.err;
}

}  // namespace
}  // namespace pastur::test
#endif
