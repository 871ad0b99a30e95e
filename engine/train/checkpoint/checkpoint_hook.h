#pragma once
// run.hook: a shell command that runs in the background after each checkpoint.
#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/train/checkpoint/checkpoint_store.h"

namespace pastur {

/// Runs `sh -c COMMAND` for complete checkpoints, one at a time, on a thread of its own, so training waits for no
/// process and no file. The command inherits the environment and the working folder, and has PASTUR_CHECKPOINT,
/// PASTUR_RUN (absolute folders) and PASTUR_STEP set. Its input is empty; its output goes to <run>/hook.log.
///
/// While a command runs, the newest later checkpoint waits; one that waited before it is skipped. The checkpoints of
/// both are held (CheckpointStore::hold). A command is a process group of its own, so Ctrl-C in a terminal does not
/// reach it, and it outlives a process that is killed. <run>/.hook names it while it runs; the next process on the run
/// folder, on the same host, holds its checkpoint and waits for its end before it starts another.
class CheckpointHook {
  public:
    using Checkpoint = CheckpointStore::Checkpoint;
    enum class Status : uint8_t {
        kOk,          ///< exit code 0
        kFailed,      ///< another exit code
        kKilled,      ///< by a signal
        kStopped,     ///< by stop(): it took too long, or the run was told to end
        kSkipped,     ///< a later checkpoint took its turn
        kNotStarted,  ///< no process, or no hook.log
    };
    struct Finished {
        int64_t step;
        Status status;
        int number;      ///< exit code of kFailed, signal of kKilled, errno of kNotStarted
        double seconds;  ///< from its start to its end; 0: it did not start
    };

    /// "ok", "failed", "killed", "stopped", "skipped", "not started".
    static const char* name_of(Status status);
    /// What happened, for a sentence that began with the hook and its step. log: the file to look into.
    static std::string describe(const Finished& finished, const std::filesystem::path& log);

    /// `store` must outlive the hook. Throws (kIo) if no thread can be started.
    CheckpointHook(std::string command, const std::filesystem::path& run_dir, CheckpointStore& store);
    /// A command that runs continues by itself; its checkpoint stays held.
    ~CheckpointHook();
    CheckpointHook(const CheckpointHook&) = delete;
    CheckpointHook& operator=(const CheckpointHook&) = delete;

    /// The step of the command that a killed process left running when this object was made.
    std::optional<int64_t> left_running() const { return left_running_; }

    /// A checkpoint that is complete.
    void add(Checkpoint checkpoint);
    /// What has ended since the last call.
    std::vector<Finished> poll();
    /// The step whose command runs or waits to run, the last one if there are two.
    std::optional<int64_t> pending() const;
    /// Waits until no command runs or waits to run, until `limit`, or until interrupted() is true (asked ten times a
    /// second). Returns whether none does.
    bool wait(std::chrono::milliseconds limit, const std::function<bool()>& interrupted);
    /// Ends the command: SIGTERM to its process group, SIGKILL kGrace later. What waits to run is dropped.
    void stop();

    static constexpr std::chrono::seconds kGrace{5};
    static constexpr const char* kLogFile = "hook.log";

  private:
    using Clock = std::chrono::steady_clock;
    struct Running {
        int64_t step;
        pid_t pid;
        Clock::time_point begin;
    };
    void work();
    void wait_for_left_over(std::unique_lock<std::mutex>& lock);
    void start(const Checkpoint& checkpoint);
    pid_t spawn(const Checkpoint& checkpoint, int log) const;
    /// Looks whether the command has ended; true if it has.
    bool reap();
    void end(const Finished& finished);
    void hold() const;
    /// Signals the process group; `since` is when it got SIGTERM.
    void terminate(std::optional<Clock::time_point>& since) const;
    bool idle() const { return !running_ && !waiting_; }

    std::string command_;
    std::filesystem::path run_dir_;
    CheckpointStore& store_;
    std::optional<int64_t> left_running_;

    mutable std::mutex mutex_;  ///< of the members below
    std::condition_variable changed_;
    bool closing_ = false, stopping_ = false;
    std::optional<int64_t> left_over_;  ///< a former process's command runs; its step
    std::optional<Running> running_;
    std::optional<Checkpoint> waiting_;
    std::vector<Finished> finished_;
    std::thread thread_;
};

}  // namespace pastur
