// Ranks meet only their own: strangers, wrong claims and dead connections at rank 0.
#include "engine/ranks/rendezvous.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <thread>

#include "engine/ranks/handshake.h"
#include "engine/ranks/sideband.h"
#include "tests/support/expect_error.h"

namespace pastur::test {
namespace {

/// A rendezvous at the loopback interface.
class Rendezvous : public testing::Test {
  protected:
    Connections host(int size, double timeout_s = 20) {
        return host_rendezvous(listener_, size, key_, timeout_s);
    }
    Connections join(int rank, int size, double timeout_s = 20, std::vector<std::string> at = {"127.0.0.1"}) {
        return join_rendezvous(rank, size, at, listener_.port(), key_, timeout_s);
    }
    Connections join_with(const JobKey& key, int rank, int size) {
        return join_rendezvous(rank, size, {"127.0.0.1"}, listener_.port(), key, 20);
    }
    template <typename Work>
    static auto in_background(Work work) {
        return std::async(std::launch::async, work);
    }
    FileDescriptor stranger() const {
        std::string why;
        FileDescriptor made = connect_to("127.0.0.1", listener_.port(), 5, why);
        EXPECT_TRUE(made) << why;
        return made;
    }
    /// A stranger that has sent a claim.
    FileDescriptor claimant(const std::string& secret, int rank, int size) const {
        FileDescriptor made = stranger();
        Challenge challenge;
        EXPECT_TRUE(receive_all(made.get(), &challenge, sizeof challenge, deadline_in(5)));
        Claim claim;
        claim.job = key_.job;
        claim.rank = rank;
        claim.size = size;
        claim.process = random_digest();
        put_text(claim.place, "host x, process 1");
        claim.proof = proof_of(claim, challenge, secret);
        EXPECT_TRUE(send_all(made.get(), &claim, sizeof claim, deadline_in(5)));
        return made;
    }
    static double seconds_since(Clock::time_point begin) {
        return std::chrono::duration<double>(Clock::now() - begin).count();
    }

    const Listener listener_{"127.0.0.1", 0};
    const JobKey key_{"the secret of this job", 7};
};

TEST_F(Rendezvous, ConnectsEveryRank) {
    constexpr int kSize = 4;
    const auto gather = [](Connections made) {
        EXPECT_EQ(made.places[0], own_place());
        Sideband band(made.rank, made.size, std::move(made.of(Channel::kSideband)), made.places);
        return band.all_gather(std::string(made.rank * 1000, static_cast<char>('a' + made.rank)));
    };
    std::vector<std::future<std::vector<std::string>>> others;
    for (int rank = 1; rank < kSize; ++rank)
        others.push_back(in_background([&, rank] {
            return gather(join(rank, kSize, 20, {"192.0.2.1", "127.0.0.1"}));
        }));
    const std::vector<std::string> at_root = gather(host(kSize));
    ASSERT_EQ(at_root.size(), 4u);
    EXPECT_EQ(at_root[3], std::string(3000, 'd'));
    for (auto& other : others) EXPECT_EQ(other.get(), at_root);
}

TEST_F(Rendezvous, IsNotDelayedByIdleAndLyingConnections) {
    std::vector<FileDescriptor> strangers;
    for (int i = 0; i < 4; ++i) strangers.push_back(stranger());
    auto root = in_background([&] { return host(2); });
    strangers.push_back(claimant("another secret", 1, 2));
    const auto begin = Clock::now();
    EXPECT_EQ(join(1, 2).rank, 1);
    EXPECT_EQ(root.get().places[1], own_place());
    EXPECT_LT(seconds_since(begin), 1);
}

TEST_F(Rendezvous, RefusesAtOnceWithTheReason) {
    auto root = in_background([&] { return host(3); });
    auto first = in_background([&] { return join(1, 3); });
    const auto refused = [&](const JobKey& key, int rank, int size, const std::string& reason) {
        const auto begin = Clock::now();
        expect_error(ExitCode::kUsage,
                     {fmt::format("rank {} of {} was refused by rank 0", rank, size), reason},
                     [&] { join_with(key, rank, size); });
        EXPECT_LT(seconds_since(begin), 2) << reason;
    };
    refused({"another secret of 16", 7}, 2, 3, "wrong secret: set PASTUR_SECRET to one text on every rank");
    refused({key_.secret, 8}, 2, 3, "this is job 7, not 8");
    refused(key_, 2, 4, "this job has 3 ranks, not 4");
    while (first.wait_for(std::chrono::milliseconds(300)) == std::future_status::ready) FAIL();
    refused(key_, 1, 3, "rank 1 is already there (" + own_place() + ")");
    EXPECT_EQ(join(2, 3).rank, 2);
    EXPECT_EQ(first.get().rank, 1);
    root.get();
}

TEST_F(Rendezvous, NamesWhoIsMissingAndWhatItRefused) {
    auto liar = in_background([&] {
        for (int i = 0; i < 2; ++i) {
            const FileDescriptor made = claimant("another secret", 1, 3);
            Answer answer;
            EXPECT_TRUE(receive_all(made.get(), &answer, sizeof answer, deadline_in(5)));
            EXPECT_EQ(answer.verdict, Answer::Verdict::kWrongSecret);
        }
    });
    auto member = in_background([&] {
        expect_error(ExitCode::kRankLost, {"rank 2 reached rank 0 (" + own_place() + ")", "ended before"},
                     [&] { join(2, 3); });
    });
    expect_error(ExitCode::kRankLost,
                 {"1 of 3 ranks did not connect", ": 1; refused: 127.0.0.1: wrong secret (2 times)"},
                 [&] { host(3, 2); });
    liar.get();
    member.get();
}

TEST_F(Rendezvous, NeverAdoptsADeadConnection) {
    auto root = in_background([&] { return host(3); });
    {
        // It has the secret, so it is welcomed, and then it dies.
        const FileDescriptor dead = claimant(key_.secret, 1, 3);
        Answer answer;
        ASSERT_TRUE(receive_all(dead.get(), &answer, sizeof answer, deadline_in(5)));
        ASSERT_EQ(answer.verdict, Answer::Verdict::kWelcome) << answer.text;
    }
    FileDescriptor silent = claimant(key_.secret, 2, 3);
    silent.reset();
    auto one = in_background([&] { return join(1, 3); });
    auto two = in_background([&] { return join(2, 3); });
    Connections made = root.get();
    EXPECT_EQ(made.places, (std::vector<std::string>(3, own_place())));
    one.get();
    two.get();
}

TEST_F(Rendezvous, KeepsItsDeadlineHoweverManyStrangersConnect) {
    std::atomic<bool> done = false;
    auto strangers = in_background([&] {
        std::vector<FileDescriptor> silent;
        const auto end = deadline_in(12);
        while (!done && Clock::now() < end) {
            silent.push_back(stranger());
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
    });
    const auto begin = Clock::now();
    expect_error(ExitCode::kRankLost, {"1 of 2 ranks did not connect"}, [&] { host(2, 1.5); });
    EXPECT_LT(seconds_since(begin), 4);
    done = true;
}

TEST_F(Rendezvous, DoesNotCountItsOwnAbsence) {
    const pid_t root = fork();
    if (root == 0) {
        try {
            host(2, 2.5);
        } catch (const std::exception&) {
            _exit(1);
        }
        _exit(0);
    }
    usleep(200000);
    kill(root, SIGSTOP);
    usleep(3000000);
    kill(root, SIGCONT);
    usleep(100000);
    EXPECT_EQ(join(1, 2).rank, 1);
    int status = 0;
    waitpid(root, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST_F(Rendezvous, IsAtTheAddressThatItIsTold) {
    std::string why;
    const Listener told("127.0.0.2", 0);
    EXPECT_TRUE(connect_to("127.0.0.2", told.port(), 5, why)) << why;
    EXPECT_FALSE(connect_to("127.0.0.1", told.port(), 5, why));
    EXPECT_EQ(why, "Connection refused");
    const Listener local("localhost", 0);
    EXPECT_FALSE(connect_to("127.0.0.2", local.port(), 5, why));
    const Listener any("", 0);
    for (const std::string& address : own_addresses())
        EXPECT_TRUE(connect_to(address, any.port(), 5, why)) << address << ": " << why;
    // 192.0.2.0/24 is reserved for documentation.
    expect_error(ExitCode::kUsage,
                 {"rank 0 cannot listen at 192.0.2.1, which is not an address of its host", "127.0.0.1"},
                 [] { Listener("192.0.2.1", 0); });
    expect_error(ExitCode::kUsage, {"rank 0 cannot listen at no.such.host.invalid"},
                 [] { Listener("no.such.host.invalid", 0); });
    expect_error(ExitCode::kRankLost, {fmt::format("port {} of 127.0.0.2", told.port()), "in use"},
                 [&] { Listener("127.0.0.2", told.port()); });
}

TEST_F(Rendezvous, ProvesItselfToRanks) {
    // A stranger listens on rank 0's port and welcomes every rank without the secret.
    std::atomic<bool> done = false;
    auto liar = in_background([&] {
        while (!done) {
            const FileDescriptor made(
                accept4(listener_.socket(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!made) {
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
                continue;
            }
            const Challenge challenge;
            Claim claim;
            const Answer answer;
            send_all(made.get(), &challenge, sizeof challenge, deadline_in(5));
            receive_all(made.get(), &claim, sizeof claim, deadline_in(5));
            send_all(made.get(), &answer, sizeof answer, deadline_in(5));
            const std::string sent(reinterpret_cast<const char*>(&claim), sizeof claim);
            EXPECT_EQ(sent.find(key_.secret), std::string::npos);
        }
    });
    expect_error(ExitCode::kRankLost,
                 {"rank 1 of 2 found no rank 0", "127.0.0.1: what answers is not rank 0 of this job"},
                 [&] { join(1, 2, 1); });
    done = true;
}

}  // namespace
}  // namespace pastur::test
