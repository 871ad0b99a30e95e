// Ranks that are alive but do not enter a collective: two processes and their watchdogs, without MPI.
#include "engine/ranks/watchdog.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>

#include "data/files.h"
#include "engine/ranks/rendezvous.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

class Watchdogs : public testing::Test {
  protected:
    using Life = std::function<void(Whereabouts&, Watchdog&)>;

    /// Runs both ranks, which then leave the job and exit with 7, and `meanwhile` with their process ids.
    /// Returns their exit codes.
    std::pair<int, int> run(
        double timeout_s, const Life& first, const Life& second,
        const std::function<void(const pid_t*)>& meanwhile = [](const pid_t*) {}) const {
        const Listener listener("127.0.0.1", 0);
        const JobKey key{"a secret of 16 or more characters"};
        pid_t ranks[2];
        for (const int rank : {0, 1}) {
            ranks[rank] = fork();
            if (ranks[rank] != 0) continue;
            if (!std::freopen(said_by(rank).c_str(), "w", stderr)) _exit(1);
            {
                Whereabouts where;
                Connections made = rank == 0 ? host_rendezvous(listener, 2, key, 10)
                                             : join_rendezvous(1, 2, {"127.0.0.1"}, listener.port(), key, 10);
                Watchdog dog(rank, std::move(made.of(Channel::kWatchdog)), made.places, where, timeout_s);
                (rank == 0 ? first : second)(where, dog);
            }
            _exit(7);
        }
        meanwhile(ranks);
        int codes[2] = {};
        for (const int rank : {0, 1}) {
            int status = 0;
            waitpid(ranks[rank], &status, 0);
            codes[rank] = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        }
        return {codes[0], codes[1]};
    }
    std::string said_by(int rank) const { return (folder_.path() / std::to_string(rank)).string(); }
    std::string said() const { return read_file(said_by(0), 4096) + read_file(said_by(1), 4096); }

    static void wait(double seconds) { usleep(static_cast<useconds_t>(seconds * 1e6)); }
    static void wait_in_collective(Whereabouts& where, double seconds) {
        const Whereabouts::Collective here(where, "all-reduce of gradients");
        wait(seconds);
    }
    TempFolder folder_;
};

TEST_F(Watchdogs, LetRanksWorkApartAndLeave) {
    const auto slow = [](Whereabouts& where, Watchdog&) {
        wait(1.5);
        wait_in_collective(where, 0.1);
    };
    const auto quick = [](Whereabouts& where, Watchdog&) { wait_in_collective(where, 1.6); };
    EXPECT_EQ(run(3, slow, quick), std::pair(7, 7)) << said();
    EXPECT_EQ(said(), "");
}

TEST_F(Watchdogs, NameTheRankThatOthersWaitFor) {
    const auto waits = [](Whereabouts& where, Watchdog&) {
        where.at_step(12);
        wait_in_collective(where, 20);
    };
    const auto hangs = [](Whereabouts& where, Watchdog&) {
        where.at_step(11);
        wait(20);
    };
    EXPECT_EQ(run(1, waits, hangs), std::pair(71, 71));
    EXPECT_NE(said().find("rank 1 (host "), std::string::npos) << said();
    EXPECT_NE(
        said().find("for it in collective 1 (all-reduce of gradients); last seen in step 11, collective 0"),
        std::string::npos)
        << said();
    EXPECT_EQ(run(1, hangs, waits), std::pair(71, 71));
    EXPECT_NE(said().find("rank 0 (host "), std::string::npos) << said();
}

TEST_F(Watchdogs, TakeEveryRankAlongWhenOneFails) {
    const auto waits = [](Whereabouts&, Watchdog&) { wait(20); };
    const auto fails = [](Whereabouts&, Watchdog& dog) { dog.end_all(74); };
    EXPECT_EQ(run(30, waits, fails), std::pair(74, 74));
    EXPECT_EQ(run(30, fails, waits), std::pair(74, 74));
    EXPECT_EQ(said(), "") << "the rank that failed has said why";
}

TEST_F(Watchdogs, DoNotCountTheirOwnAbsence) {
    const auto stop_both = [](const pid_t* ranks) {
        wait(0.5);
        for (const int rank : {0, 1}) kill(ranks[rank], SIGSTOP);
        wait(3);
        for (const int rank : {1, 0}) kill(ranks[rank], SIGCONT);
    };
    const auto waits = [](Whereabouts& where, Watchdog&) { wait_in_collective(where, 4); };
    EXPECT_EQ(run(2, waits, waits, stop_both), std::pair(7, 7)) << said();
    EXPECT_EQ(said(), "");
}

TEST_F(Watchdogs, HavePatienceWithWhatTakesLongByItself) {
    const auto starts = [](Whereabouts& where, Watchdog&) {
        const Whereabouts::Collective here(where, "initialisation", 2);
        wait(2);
    };
    EXPECT_EQ(run(1, starts, starts), std::pair(7, 7)) << said();
    EXPECT_EQ(said(), "");
}

// As in NCCL's initialisation: the training thread polls for ever.
TEST_F(Watchdogs, EndARankWhoseTrainingThreadIsBlockedInALibrary) {
    const auto blocked = [](Whereabouts& where, Watchdog&) {
        const Whereabouts::Collective here(where, "initialisation", 60);
        wait(30);
    };
    const auto dies = [](Whereabouts&, Watchdog&) { _exit(9); };
    EXPECT_EQ(run(30, blocked, dies), std::pair(71, 9));
    EXPECT_NE(said().find("its connection closed"), std::string::npos) << said();
    const auto stops = [](Whereabouts& where, Watchdog&) {
        const Whereabouts::Collective here(where, "initialisation", 60);
        kill(getpid(), SIGSTOP);
    };
    const auto end_stopped = [](const pid_t* ranks) {
        waitpid(ranks[1], nullptr, WUNTRACED);
        int status = 0;
        siginfo_t ended{};
        waitid(P_PID, static_cast<id_t>(ranks[0]), &ended, WEXITED | WNOWAIT);
        EXPECT_EQ(waitpid(ranks[1], &status, WNOHANG), 0) << "still stopped";
        kill(ranks[1], SIGKILL);
    };
    EXPECT_EQ(run(1, blocked, stops, end_stopped).first, 71);
    EXPECT_NE(said().find("rank 1 (host "), std::string::npos) << said();
    EXPECT_NE(said().find("no sign of life for 1"), std::string::npos) << said();
}

}  // namespace
}  // namespace pastur::test
