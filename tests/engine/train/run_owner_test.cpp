// A run folder has one owner: who is refused, and which claims of the past count for nothing.
#include "engine/train/run_owner.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

#include "data/files.h"
#include "engine/train/owner_record.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using namespace std::chrono_literals;

class Owner : public testing::Test {
  protected:
    fs::path run() const { return folder_.path() / "run"; }
    fs::path record_path() const { return run() / ".owner"; }
    OwnerRecord record() const {
        return OwnerRecord::parse(fs::exists(record_path()) ? read_file(record_path(), 4096) : "");
    }
    /// Overwrites the record in place, as an owner does.
    void write(const OwnerRecord& record) const {
        fs::create_directories(run());
        std::fstream file(record_path(), std::ios::in | std::ios::out);
        if (!file.is_open()) file.open(record_path(), std::ios::out);
        file << record.text() << std::flush;
        fs::resize_file(record_path(), record.text().size());
    }
    static OwnerRecord of_another_host() {
        OwnerRecord other = OwnerRecord::of_this_process();
        other.host = "elsewhere";
        other.boot = "another boot";
        other.claim = 7;
        return other;
    }
    /// As on a file system that hosts share.
    std::unique_ptr<RunOwner> claim_shared() const {
        return std::make_unique<RunOwner>(run(), RunOwner::Timing{20ms, 200ms, 40ms, 2000ms},
                                          RunOwner::Sharing::kShared);
    }

    test::TempFolder folder_;
};

TEST_F(Owner, ASecondOneIsRefusedByNameUntilTheFirstLeaves) {
    auto first = std::make_unique<RunOwner>(run());
    const OwnerRecord self = OwnerRecord::of_this_process();
    expect_error(ExitCode::kUsage,
                 {"run folder " + run().string() + " in use by pid " + std::to_string(self.pid) +
                  " on host " + self.host},
                 [&] { RunOwner second(run()); });
    first->check();
    fs::create_directory(run() / "checkpoints");
    first.reset();
    EXPECT_FALSE(fs::exists(record_path()));
    RunOwner second(run());
    EXPECT_NE(second.token(), 0);
    EXPECT_EQ(record().claim, second.token());
    { const RunOwner owner(folder_.path() / "made"); }
    EXPECT_FALSE(fs::exists(folder_.path() / "made")) << "a folder that a claim made and that stayed empty";
}

TEST_F(Owner, AKilledProcessLeavesNoLock) {
    for (const auto sharing : {RunOwner::Sharing::kAsMounted, RunOwner::Sharing::kShared}) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            const RunOwner owner(run());
            while (true) ::pause();
        }
        while (record().pid != child) std::this_thread::sleep_for(1ms);
        expect_error(ExitCode::kUsage, {"pid " + std::to_string(child)}, [&] { RunOwner second(run()); });
        ::kill(child, SIGKILL);  // at once, while it may still be ending
        const RunOwner next(run(), RunOwner::Timing{20ms, 60s, 40ms, 30s}, sharing);
        EXPECT_EQ(record().pid, ::getpid());
        ::waitpid(child, nullptr, 0);
    }
}

TEST_F(Owner, NeverTwoAtATime) {
    std::atomic<int> owners = 0, claims = 0, refused = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; ++i)
        threads.emplace_back([&] {
            while (claims < 200) {
                try {
                    const RunOwner owner(run());
                    EXPECT_EQ(++owners, 1);
                    ++claims;
                    std::this_thread::yield();
                    --owners;
                } catch (const Error& error) {
                    EXPECT_EQ(error.code(), ExitCode::kUsage) << error.what();
                    ++refused;
                }
            }
        });
    for (std::thread& thread : threads) thread.join();
    EXPECT_GT(refused, 0);
    EXPECT_FALSE(fs::exists(record_path()));
}

TEST_F(Owner, AnotherHostsRecordCountsWhileItChanges) {
    OwnerRecord other = of_another_host();
    write(other);
    std::atomic<bool> stop = false;
    std::thread beats([&] {
        for (; !stop; std::this_thread::sleep_for(20ms)) {
            ++other.beat;
            write(other);
        }
    });
    expect_error(ExitCode::kUsage, {"in use by pid", "on host elsewhere"}, [&] { claim_shared(); });
    stop = true;
    beats.join();
    EXPECT_EQ(record().host, "elsewhere") << "the owner's record must stay";
    auto next = claim_shared();
    EXPECT_EQ(record().claim, next->token());
    next.reset();
    write(of_another_host());
    const auto begin = std::chrono::steady_clock::now();
    const RunOwner here(run());  // only this host uses the file system, so the record alone is not a lock
    EXPECT_LT(std::chrono::steady_clock::now() - begin, RunOwner::Timing().patience);
}

TEST_F(Owner, OfTwoSimultaneousClaimsWithoutACommonLockOneStands) {
    std::thread other([&] {
        while (!fs::exists(record_path()) || record().claim == 0) std::this_thread::sleep_for(1ms);
        write(of_another_host());
    });
    expect_error(ExitCode::kUsage, {"on host elsewhere"}, [&] { claim_shared(); });
    other.join();
    EXPECT_EQ(record().claim, 7);
}

TEST_F(Owner, ALostClaimIsNoticed) {
    {
        const auto owner = claim_shared();
        owner->check();
        owner->check_last_beat();
        const int64_t beat = record().beat;
        while (record().beat == beat) std::this_thread::sleep_for(1ms);
        write(of_another_host());
        expect_error(ExitCode::kIo, {"was claimed by pid", "on host elsewhere"}, [&] { owner->check(); });
        std::this_thread::sleep_for(100ms);
        expect_error(ExitCode::kIo, {"was claimed by pid"}, [&] { owner->check_last_beat(); });
    }
    EXPECT_EQ(record().claim, 7) << "the record of the other owner must stay";
    fs::remove(record_path());
    const RunOwner owner(run());
    fs::rename(run(), folder_.path() / "moved");
    expect_error(ExitCode::kIo, {"was removed or replaced"}, [&] { owner.check(); });
}

TEST_F(Owner, WhatIsNotARecordIsNotAnOwner) {
    fs::create_directory(run());
    for (const char* text : {"", "{", "[]", "{\"pid\":-3}", "{\"host\":3,\"pid\":\"x\"}"}) {
        std::ofstream(record_path()) << text;
        EXPECT_NO_THROW(RunOwner{run()}) << text;
    }
    fs::create_symlink(folder_.path() / "target", record_path());
    expect_error(ExitCode::kIo, {".owner"}, [&] { RunOwner{run()}; });
    EXPECT_FALSE(fs::exists(folder_.path() / "target"));
    fs::remove(record_path());
    ::mkfifo(record_path().c_str(), 0666);
    expect_error(ExitCode::kIo, {".owner: expected a regular file"}, [&] { RunOwner{run()}; });
    EXPECT_TRUE(fs::exists(record_path()));
}

/// Where the kernel locks nothing, the owner's process is looked up.
class OwnerWithoutLocks : public test::TrainingLine {};

TEST_F(OwnerWithoutLocks, IsStillTheOnlyOne) {
    const std::string line = fmt::format(
        "OMP_NUM_THREADS=1 ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' PASTUR_FAULT_KIND=lockless '{}' "
        "train r.toml --run run --device cpu",
        (binary().parent_path() / "libpastur_faults.so").string(), binary().string());
    const test::Result both =
        shell("(" + line + " --train.steps=1000000 --max-time 60 > first & echo $! > pid); " +
              "while ! grep -q . run/.owner 2> /dev/null; do sleep 0.01; done; " + line + " --resume");
    EXPECT_EQ(both.code, 2) << both.err;
    EXPECT_NE(both.err.find("in use by pid "), std::string::npos) << both.err;
    const test::Result next =
        shell("kill -9 $(cat pid); " + line + " --resume --train.steps=1000000 --max-time 0.1");
    EXPECT_EQ(next.code, 75) << next.err;
}

TEST(OwnerRecord, TellsProcessesApart) {
    OwnerRecord self = OwnerRecord::of_this_process();
    EXPECT_EQ(OwnerRecord::parse(self.text()).text(), self.text());
    EXPECT_EQ(state_of_process(self), ProcessState::kAlive);
    OwnerRecord earlier = self;
    ++earlier.started;  // another process had this id
    EXPECT_EQ(state_of_process(earlier), ProcessState::kGone);
    OwnerRecord elsewhere = self;
    elsewhere.pids = "pid:[1]";
    EXPECT_EQ(state_of_process(elsewhere), ProcessState::kUnknown);
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
    OwnerRecord ended = self;
    ended.pid = child;
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    std::string field;
    for (int i = 0; i < 22; ++i) stat >> field;
    ended.started = std::stoull(field);
    EXPECT_EQ(state_of_process(ended), ProcessState::kEnding);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(state_of_process(ended), ProcessState::kGone);
}

}  // namespace
}  // namespace pastur
