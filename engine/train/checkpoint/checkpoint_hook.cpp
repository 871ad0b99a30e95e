#include "engine/train/checkpoint/checkpoint_hook.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <string_view>
#include <system_error>

#include "data/files.h"
#include "engine/io/json_text.h"
#include "engine/train/owner_record.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr const char* kRecordFile = ".hook";
constexpr milliseconds kShortestPause(5), kLongestPause(200);

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

std::vector<std::string> environment_with(const std::vector<std::string>& variables) {
    std::vector<std::string> environment = variables;
    for (char** entry = environ; *entry; ++entry) {
        const std::string_view present = *entry;
        const auto replaces = [&](const std::string& variable) {
            return present.starts_with(variable.substr(0, variable.find('=') + 1));
        };
        if (std::none_of(variables.begin(), variables.end(), replaces)) environment.emplace_back(present);
    }
    return environment;
}

/// Empty on failure, with errno set. Does not wait for the other end of a pipe.
FileDescriptor open_log(const fs::path& path) {
    FileDescriptor log(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
    struct stat status {};
    if (log && ::fstat(log.get(), &status) == 0 && !S_ISREG(status.st_mode)) {
        log.reset();
        errno = EINVAL;
    }
    return log;
}

/// Not made durable: it names a process of the running system. Errors are ignored, because only the next process on
/// the run folder reads it, and only if this one is killed.
void write_record(const fs::path& path, pid_t pid, int64_t step) {
    nlohmann::ordered_json record = parse_json<nlohmann::ordered_json>(OwnerRecord::of_process(pid).text());
    record["step"] = step;
    const std::string text = record.dump() + "\n";
    const FileDescriptor file(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
    if (file && ::write(file.get(), text.data(), text.size()) < 0) return;
}

struct Record {
    OwnerRecord process;
    int64_t step;
};

std::optional<Record> read_record(const fs::path& path) {
    if (!path_exists(path)) return std::nullopt;
    const std::string text = read_file(path, 1 << 16);
    const nlohmann::json json = parse_json(text);
    return Record{OwnerRecord::parse(text), json.is_object() ? integer_or_minus_one(json, "step") : -1};
}

/// A process that has ended reads nothing, even where it stays a zombie, as in a container whose first process waits for
/// no other.
bool runs(const OwnerRecord& process) {
    return state_of_process(process) == ProcessState::kAlive;
}

}  // namespace

const char* CheckpointHook::name_of(Status status) {
    switch (status) {
        case Status::kOk:
            return "ok";
        case Status::kFailed:
            return "failed";
        case Status::kKilled:
            return "killed";
        case Status::kStopped:
            return "stopped";
        case Status::kSkipped:
            return "skipped";
        case Status::kNotStarted:
            return "not started";
    }
    return "";
}

std::string CheckpointHook::describe(const Finished& finished, const fs::path& log) {
    switch (finished.status) {
        case Status::kOk:
            return fmt::format("succeeded after {:.1f} s", finished.seconds);
        case Status::kFailed:
            return fmt::format("failed with exit code {} after {:.1f} s: see {}", finished.number,
                               finished.seconds, log.string());
        case Status::kKilled:
            return fmt::format("was killed by signal {} after {:.1f} s: see {}", finished.number,
                               finished.seconds, log.string());
        case Status::kStopped:
            return finished.seconds == 0
                       ? "did not start, because the run ends"
                       : fmt::format("was stopped after {:.1f} s, because the run ends", finished.seconds);
        case Status::kSkipped:
            return "was skipped: the hook of an earlier checkpoint was still running when a later one came";
        case Status::kNotStarted:
            return fmt::format("did not start: {} (output goes to {})",
                               std::generic_category().message(finished.number), log.string());
    }
    return "";
}

CheckpointHook::CheckpointHook(std::string command, const fs::path& run_dir, CheckpointStore& store)
    : command_(std::move(command)), run_dir_(fs::absolute(run_dir).lexically_normal()), store_(store) {
    if (const std::optional<Record> record = read_record(run_dir_ / kRecordFile);
        record && runs(record->process))
        left_running_ = left_over_ = record->step;
    hold();
    try {
        thread_ = std::thread([this] { work(); });
    } catch (const std::system_error& error) {
        fail(ExitCode::kIo, "cannot start a thread for run.hook: {}", error.what());
    }
}

CheckpointHook::~CheckpointHook() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void CheckpointHook::add(Checkpoint checkpoint) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_ && waiting_->step != checkpoint.step)
        finished_.push_back({waiting_->step, Status::kSkipped, 0, 0});
    waiting_ = std::move(checkpoint);
    hold();
    changed_.notify_all();
}

std::vector<CheckpointHook::Finished> CheckpointHook::poll() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(finished_, {});
}

std::optional<int64_t> CheckpointHook::pending() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_) return waiting_->step;
    return running_ ? std::optional(running_->step) : std::nullopt;
}

bool CheckpointHook::wait(milliseconds limit, const std::function<bool()>& interrupted) {
    constexpr milliseconds kBetweenLooks(100);
    const Clock::time_point deadline = Clock::now() + limit;
    std::unique_lock<std::mutex> lock(mutex_);
    while (!idle() && Clock::now() < deadline && !interrupted()) changed_.wait_for(lock, kBetweenLooks);
    return idle();
}

void CheckpointHook::stop() {
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    if (waiting_) finished_.push_back({waiting_->step, Status::kStopped, 0, 0});
    waiting_.reset();
    changed_.notify_all();
    // A process that the system cannot end, such as one that waits for a dead disk, is left.
    changed_.wait_for(lock, 2 * kGrace, [this] { return idle(); });
    stopping_ = false;
}

/// Called with the mutex held, as end() and terminate().
void CheckpointHook::hold() const {
    std::set<int64_t> steps;
    if (running_) steps.insert(running_->step);
    if (waiting_) steps.insert(waiting_->step);
    if (left_over_) steps.insert(*left_over_);
    store_.hold(std::move(steps));
}

void CheckpointHook::end(const Finished& finished) {
    finished_.push_back(finished);
    running_.reset();
    hold();
    changed_.notify_all();
}

void CheckpointHook::work() {
    std::unique_lock<std::mutex> lock(mutex_);
    wait_for_left_over(lock);
    while (!closing_) {
        if (!waiting_) {
            changed_.wait(lock, [this] { return closing_ || waiting_; });
            continue;
        }
        const Checkpoint checkpoint = *std::exchange(waiting_, std::nullopt);
        running_ = Running{checkpoint.step, 0, Clock::now()};
        lock.unlock();
        start(checkpoint);
        lock.lock();
        milliseconds pause = kShortestPause;
        std::optional<Clock::time_point> terminated;
        while (running_ && !reap() && !closing_) {
            changed_.wait_for(lock, pause, [&] { return closing_ || (stopping_ && !terminated); });
            pause = std::min(2 * pause, kLongestPause);
            if (stopping_) terminate(terminated);
        }
    }
}

void CheckpointHook::terminate(std::optional<Clock::time_point>& since) const {
    if (!since) {
        since = Clock::now();
        ::kill(-running_->pid, SIGTERM);
    } else if (Clock::now() - *since > kGrace) {
        ::kill(-running_->pid, SIGKILL);
    }
}

void CheckpointHook::wait_for_left_over(std::unique_lock<std::mutex>& lock) {
    if (!left_over_) return;
    const std::optional<Record> record = read_record(run_dir_ / kRecordFile);
    while (record && runs(record->process) && !closing_)
        changed_.wait_for(lock, kLongestPause, [this] { return closing_; });
    left_over_.reset();
    hold();
}

/// Called without the mutex, so training does not wait for it. running_->pid is this thread's alone to change.
void CheckpointHook::start(const Checkpoint& checkpoint) {
    const FileDescriptor log = open_log(run_dir_ / kLogFile);
    int failure = log ? 0 : errno;
    pid_t pid = 0;
    if (log) {
        const std::string head = fmt::format("# step {}, {:%Y-%m-%d %H:%M:%S} UTC\n", checkpoint.step,
                                             fmt::gmtime(std::time(nullptr)));
        if (::write(log.get(), head.data(), head.size()) < 0) failure = errno;
    }
    if (failure == 0) pid = spawn(checkpoint, log.get());
    if (pid < 0) failure = -pid;
    if (pid > 0) write_record(run_dir_ / kRecordFile, pid, checkpoint.step);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (failure != 0) return end({checkpoint.step, Status::kNotStarted, failure, 0});
    running_->pid = pid;
    hold();
}

/// Returns the process, or minus the errno. posix_spawn(3) neither copies the memory of a process that uses a GPU or
/// MPI nor calls handlers of fork(2), at which Open MPI warns.
pid_t CheckpointHook::spawn(const Checkpoint& checkpoint, int log) const {
    std::vector<std::string> arguments = {"sh", "-c", command_};
    std::vector<std::string> environment =
        environment_with({"PASTUR_CHECKPOINT=" + fs::absolute(checkpoint.path).lexically_normal().string(),
                          "PASTUR_RUN=" + run_dir_.string(), fmt::format("PASTUR_STEP={}", checkpoint.step)});
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    if (const int error = posix_spawn_file_actions_init(&files)) return -error;
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, log, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, log, STDERR_FILENO);
    // Devices, sockets to other ranks and the lock of the run folder stay with this process.
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);  // the program ignores it, which a command would inherit
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    const int error = posix_spawn(&pid, "/bin/sh", &files, &attributes, pointers_to(arguments).data(),
                                  pointers_to(environment).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error ? -error : pid;
}

bool CheckpointHook::reap() {
    int status = 0;
    const pid_t reaped = ::waitpid(running_->pid, &status, WNOHANG);
    if (reaped == 0 || (reaped < 0 && errno == EINTR)) return false;
    Finished finished{running_->step, Status::kOk, 0,
                      std::chrono::duration<double>(Clock::now() - running_->begin).count()};
    if (reaped < 0) {  // something else in this process has waited for every child
        finished.status = Status::kFailed;
        finished.number = -1;
    } else if (WIFSIGNALED(status)) {
        finished.status = stopping_ ? Status::kStopped : Status::kKilled;
        finished.number = WTERMSIG(status);
    } else if (WEXITSTATUS(status) != 0) {
        finished.status = stopping_ ? Status::kStopped : Status::kFailed;
        finished.number = WEXITSTATUS(status);
    }
    std::error_code ignored;
    fs::remove(run_dir_ / kRecordFile, ignored);
    end(finished);
    return true;
}

}  // namespace pastur
