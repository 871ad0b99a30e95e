// run.hook: one command at a time, never for a checkpoint that is not complete, and never lost with a killed run.
#include "engine/train/checkpoint/checkpoint_hook.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "data/files.h"
#include "engine/io/step_name.h"
#include "engine/train/owner_record.h"
#include "tests/support/ranks.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

using namespace std::chrono_literals;
using Status = CheckpointHook::Status;

bool never() {
    return false;
}

/// Waits for a file that a hook writes; a hook that hangs fails the test instead of ending it.
bool appears(const fs::path& path) {
    for (int i = 0; i < 2000 && !fs::exists(path); ++i) std::this_thread::sleep_for(5ms);
    return fs::exists(path);
}

class Hook : public testing::Test {
  protected:
    Hook() { store_.prepare(); }
    CheckpointStore::Checkpoint checkpoint(int64_t step) {
        return {step, store_.write(step, [](const fs::path& folder) { std::ofstream(folder / "x") << "x"; })};
    }
    fs::path run() const { return folder_.path(); }
    std::string text(const char* name) const { return read_file(run() / name, 1 << 20); }
    void touch(const char* name) const { std::ofstream(run() / name) << "x"; }

    TempFolder folder_{folder_in_memory()};
    CheckpointStore store_{folder_.path() / "checkpoints", 1};
};

TEST_F(Hook, KnowsItsCheckpointAndWritesALog) {
    CheckpointHook hook(
        "printf '%s %s %s\\n' $PASTUR_STEP $PASTUR_RUN $PASTUR_CHECKPOINT > env; cat; echo out; echo err >&2; "
        "ls /proc/self/fd | wc -l > files; mv env files $PASTUR_RUN",
        run(), store_);
    hook.add(checkpoint(7));
    EXPECT_TRUE(hook.wait(20s, never));
    const auto ended = hook.poll();
    ASSERT_EQ(ended.size(), 1u);
    EXPECT_EQ(ended[0].step, 7);
    EXPECT_EQ(ended[0].status, Status::kOk);
    EXPECT_GT(ended[0].seconds, 0);
    EXPECT_EQ(text("env"), fmt::format("7 {0} {0}/checkpoints/step_00000007\n", run().string()));
    const std::string log = text("hook.log");
    EXPECT_EQ(log.rfind("# step 7, 2", 0), 0u) << log;
    EXPECT_NE(log.find("\nout\nerr\n"), std::string::npos) << log;
    // Input, output, errors and the listed folder: no descriptor of this process.
    EXPECT_EQ(text("files"), "4\n");
    EXPECT_FALSE(fs::exists(run() / ".hook"));
    EXPECT_TRUE(hook.poll().empty());
}

TEST_F(Hook, SaysHowACommandFailed) {
    for (const auto& [command, status, number, says] :
         {std::tuple("exit 3", Status::kFailed, 3, "failed with exit code 3"),
          std::tuple("kill -9 $$", Status::kKilled, 9, "was killed by signal 9"),
          std::tuple("no-such-command-here", Status::kFailed, 127, "exit code 127")}) {
        CheckpointHook hook(command, run(), store_);
        hook.add({1, run()});
        EXPECT_TRUE(hook.wait(20s, never));
        const auto ended = hook.poll();
        ASSERT_EQ(ended.size(), 1u);
        EXPECT_EQ(ended[0].status, status) << command;
        EXPECT_EQ(ended[0].number, number) << command;
        EXPECT_NE(CheckpointHook::describe(ended[0], "log").find(says), std::string::npos);
    }
    // A log that is not a regular file must not hold anything up.
    fs::remove(run() / "hook.log");
    ASSERT_EQ(::mkfifo((run() / "hook.log").c_str(), 0600), 0);
    CheckpointHook hook("true", run(), store_);
    hook.add({1, run()});
    EXPECT_TRUE(hook.wait(20s, never));
    EXPECT_EQ(hook.poll().at(0).status, Status::kNotStarted);
}

TEST_F(Hook, RunsOneAtATimeAndKeepsItsCheckpoints) {
    CheckpointHook hook(
        "cd $PASTUR_RUN; echo $PASTUR_STEP >> order; ls checkpoints >> seen; until [ -e go ]; do sleep 0.01; done; "
        "cat $PASTUR_CHECKPOINT/x > /dev/null",
        run(), store_);
    hook.add(checkpoint(1));
    ASSERT_TRUE(appears(run() / "seen"));
    hook.add(checkpoint(2));
    hook.add(checkpoint(3));  // 2 had waited
    const auto skipped = hook.poll();
    ASSERT_EQ(skipped.size(), 1u);
    EXPECT_EQ(skipped[0].step, 2);
    EXPECT_EQ(skipped[0].status, Status::kSkipped);
    EXPECT_EQ(hook.pending(), 3);
    // keep = 1, but 1 is being read and 3 waits; nothing needs 2 any more.
    store_.write(4, [](const fs::path& folder) { std::ofstream(folder / "x") << "x"; });
    const auto kept = [&](int64_t step) { return fs::exists(store_.at(step).path); };
    EXPECT_TRUE(kept(1) && !kept(2) && kept(3) && kept(4));
    touch("go");
    EXPECT_TRUE(hook.wait(20s, never));
    for (const auto& ended : hook.poll()) EXPECT_EQ(ended.status, Status::kOk) << ended.step;
    EXPECT_EQ(text("order"), "1\n3\n");
    store_.tidy();
    EXPECT_TRUE(!kept(1) && !kept(3) && kept(4));
}

TEST_F(Hook, AWaitIsInterruptedAndTheGroupStopped) {
    CheckpointHook hook("cd $PASTUR_RUN; sleep 1000 & echo $! > child; wait", run(), store_);
    hook.add({1, run()});
    ASSERT_TRUE(appears(run() / "child"));
    hook.add({2, run()});
    EXPECT_FALSE(hook.wait(1ms, never));
    EXPECT_FALSE(hook.wait(1h, [] { return true; }));
    const auto begin = std::chrono::steady_clock::now();
    hook.stop();
    EXPECT_LT(std::chrono::steady_clock::now() - begin, CheckpointHook::kGrace);
    const auto ended = hook.poll();
    ASSERT_EQ(ended.size(), 2u);
    for (const auto& one : ended) EXPECT_EQ(one.status, Status::kStopped);
    const pid_t child = std::stoi(text("child"));
    for (int i = 0; i < 1000 && state_of_process(OwnerRecord::of_process(child)) == ProcessState::kAlive; ++i)
        std::this_thread::sleep_for(5ms);
    EXPECT_NE(state_of_process(OwnerRecord::of_process(child)), ProcessState::kAlive);
    EXPECT_FALSE(hook.pending());
}

TEST_F(Hook, AProcessThatEndsLeavesItRunningAndTheNextOneWaits) {
    {
        CheckpointHook first("cd $PASTUR_RUN; touch begun; until [ -e go ]; do sleep 0.01; done; touch done",
                             run(), store_);
        first.add(checkpoint(1));
        ASSERT_TRUE(appears(run() / "begun"));
    }
    CheckpointHook second("cd $PASTUR_RUN; [ -e done ]", run(), store_);
    EXPECT_EQ(second.left_running(), 1);
    second.add(checkpoint(2));
    store_.write(3, [](const fs::path& folder) { std::ofstream(folder / "x") << "x"; });
    EXPECT_TRUE(fs::exists(store_.at(1).path)) << "keep = 1, but the first command reads it";
    EXPECT_FALSE(second.wait(50ms, never));
    touch("go");
    ASSERT_TRUE(appears(run() / "done"));
    EXPECT_TRUE(second.wait(20s, never));
    const auto ended = second.poll();
    ASSERT_EQ(ended.size(), 1u);
    EXPECT_EQ(ended[0].status, Status::kOk);
    // Nothing waited for the first command, this process's child: it counts as ended while it is a zombie.
    EXPECT_GT(::waitpid(-1, nullptr, WNOHANG), 0);
    for (const char* record : {"", "{", "[]", "{\"pid\":1}", "{\"pid\":-1,\"step\":\"x\"}"}) {
        std::ofstream(run() / ".hook") << record;
        EXPECT_FALSE(CheckpointHook("true", run(), store_).left_running()) << record;
    }
}

class HookedRuns : public SmallRuns {
  protected:
    static constexpr const char* kHook =
        " --run.hook='echo $PASTUR_STEP >> $PASTUR_RUN/hooked; test -e $PASTUR_CHECKPOINT/MANIFEST.json' ";
    Result train(const std::string& arguments) const {
        return run("train " + arguments + " --device cpu", "OMP_NUM_THREADS=1");
    }
    std::string hooked(const std::string& run) const { return read_file(file(run + "/hooked"), 1 << 20); }
    std::vector<std::pair<int64_t, std::string>> hooks(const std::string& run) const {
        std::vector<std::pair<int64_t, std::string>> all;
        for (const nlohmann::json& event : events(run, "hook"))
            all.emplace_back(event.at("step"), event.at("status"));
        return all;
    }
};

using Hooks = std::vector<std::pair<int64_t, std::string>>;

TEST_F(HookedRuns, ChangeNoBitAndWaitForTheLastHook) {
    const Result plain = train("r.toml --run plain --checkpoint.every=3");
    ASSERT_EQ(plain.code, 0) << plain.err;
    const Result with = train(std::string("r.toml --run hooked --checkpoint.every=3 --checkpoint.keep=1") +
                              " --run.hook='sleep 0.7; test -e $PASTUR_CHECKPOINT/MANIFEST.json || exit 5'");
    ASSERT_EQ(with.code, 0) << with.err;
    EXPECT_EQ(weights("hooked"), weights("plain"));
    EXPECT_EQ(losses("hooked"), losses("plain"));
    // The hook of step 3 outlasts the run, and retention waits for it.
    EXPECT_EQ(hooks("hooked"), (Hooks{{3, "ok"}, {6, "ok"}}));
    EXPECT_FALSE(fs::exists(checkpoint("hooked", 3)));
    EXPECT_NE(with.out.find("waiting for run.hook of step 6, at most 1800 s"), std::string::npos) << with.out;
    std::vector<std::string> order;
    std::ifstream lines(file("hooked/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);)
        order.push_back(nlohmann::json::parse(line).at("event"));
    EXPECT_EQ(order.back(), "end");
}

TEST_F(HookedRuns, AFailureIsAWarningAndRunsAgainOnResume) {
    const Result failing = train("r.toml --run run --run.hook='exit 4'");
    EXPECT_EQ(failing.code, 0) << failing.err;
    EXPECT_NE(failing.out.find("warning: run.hook of step 6 failed with exit code 4 after "),
              std::string::npos)
        << failing.out;
    EXPECT_EQ(events("run", "hook").at(0).at("code"), 4);
    const std::string again = std::string("r.toml --run run --resume") + kHook;
    EXPECT_EQ(train(again).code, 0);
    EXPECT_EQ(hooked("run"), "6\n");
    EXPECT_EQ(train(again).code, 0);
    EXPECT_EQ(hooked("run"), "6\n") << "metrics.jsonl says that it has succeeded";
    EXPECT_EQ(hooks("run"), (Hooks{{6, "failed"}, {6, "ok"}}));
}

TEST_F(HookedRuns, AStopHasItsHookOnceAndSoHasTheResumedRun) {
    write("STOP", "");
    fs::create_directory(file("run"));
    fs::copy_file(file("STOP"), file("run/STOP"));
    const Result stopped = train(std::string("r.toml --run run") + kHook);
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_EQ(hooked("run"), "0\n");
    fs::remove(file("run/STOP"));
    EXPECT_EQ(train(std::string("run --resume") + kHook).code, 0);
    EXPECT_EQ(hooked("run"), "0\n6\n");
}

/// The run is killed while the hook of step 3 runs. It outlives the run, and the resumed run waits for it.
TEST_F(HookedRuns, AKilledRunResumes) {
    ASSERT_EQ(train("r.toml --run whole").code, 0);
    const std::string hook =
        " --checkpoint.every=3 --run.hook='echo $PASTUR_STEP >> $PASTUR_RUN/hooked; "
        "test $PASTUR_STEP = 3 && test ! -e $PASTUR_RUN/second && { touch $PASTUR_RUN/second; kill -9 $PPID; sleep 0.3; "
        "echo slept >> $PASTUR_RUN/hooked; }; true'";
    const std::string line = "'" + binary().string() + "' train r.toml --run run --device cpu" + hook;
    // The steps after 3 take longer than the start of the hook.
    const Result killed = shell("OMP_NUM_THREADS=1 " + line + " --train.steps=6; echo $?");
    EXPECT_NE(killed.out.find("137\n"), std::string::npos) << killed.out;
    EXPECT_TRUE(events("run", "end").empty());
    const Result resumed = train("r.toml --run run --resume" + hook);
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(weights("run"), weights("whole"));
    EXPECT_EQ(losses("run"), losses("whole"));
    const std::string all = hooked("run");
    EXPECT_EQ(all.rfind("3\nslept\n", 0), 0u) << all;
    EXPECT_EQ(all.substr(all.size() - 2), "6\n") << all;
}

}  // namespace
}  // namespace pastur::test
