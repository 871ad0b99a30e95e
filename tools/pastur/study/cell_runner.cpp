#include "tools/pastur/study/cell_runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>

#include "data/output.h"
#include "kernels/base/error.h"
#include "tools/pastur/study/cell_state.h"

namespace pastur {
namespace {

std::vector<std::string> arguments_of(const StudyCell& cell, const std::filesystem::path& folder,
                                      const std::string& device, double max_seconds) {
    std::vector<std::string> arguments = {"pastur",   "train", cell.recipe, "--run",    folder.string(),
                                          "--resume", "--log", "plain",     "--device", device};
    if (max_seconds > 0)
        arguments.insert(arguments.end(), {"--max-time", fmt::format("{:.0f}", std::max(1.0, max_seconds))});
    if (!cell.data_dir.empty()) arguments.push_back("--data.dir=" + cell.data_dir);
    for (const auto& [key, value] : cell.settings) arguments.push_back(fmt::format("--{}={}", key, value));
    return arguments;
}

/// The child between fork and exec, where only async-signal-safe calls are allowed. Never returns.
[[noreturn]] void become(const char* program, char* const* arguments, char* const* environment, int log,
                         pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);  // it died before the call
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    // A Ctrl-C of the terminal reaches the study alone, which asks its runs to stop.
    ::setpgid(0, 0);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE}) ::signal(signal, SIG_DFL);
    ::execve(program, arguments, environment);
    ::_exit(127);
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

std::vector<std::string> environment_with(const std::string& name, const std::string& value) {
    std::vector<std::string> environment;
    for (char** entry = environ; *entry; ++entry)
        if (value.empty() || !std::string_view(*entry).starts_with(name + "="))
            environment.emplace_back(*entry);
    if (!value.empty()) environment.push_back(name + "=" + value);
    return environment;
}

}  // namespace

CellRunner::~CellRunner() {
    for (const Process& process : processes_) {
        ::kill(process.pid, SIGKILL);
        ::waitpid(process.pid, nullptr, 0);
    }
}

void CellRunner::start(const StudyCell& cell, size_t slot, double max_seconds) {
    const std::filesystem::path log = log_of(out_, cell);
    std::filesystem::create_directories(log.parent_path());
    std::vector<std::string> arguments = arguments_of(cell, cell_folder(out_, cell), device_, max_seconds);
    std::vector<std::string> environment =
        environment_with("CUDA_VISIBLE_DEVICES", gpus_.empty() ? "" : gpus_[slot % gpus_.size()]);
    const std::vector<char*> argv = pointers_to(arguments), envp = pointers_to(environment);
    const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
    const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file < 0) fail_io("cannot open", log.string());
    const pid_t parent = ::getpid(), pid = ::fork();
    if (pid == 0) become(program.c_str(), argv.data(), envp.data(), file, parent);
    const int why = errno;
    ::close(file);
    errno = why;
    if (pid < 0) fail_io("cannot start a process for", cell.name);
    processes_.push_back({pid, slot, cell.name});
}

CellRunner::Ended CellRunner::poll() {
    for (auto process = processes_.begin(); process != processes_.end(); ++process) {
        int status = 0;
        if (::waitpid(process->pid, &status, WNOHANG) != process->pid) continue;
        const Ended ended = {process->slot, process->cell,
                             WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
        processes_.erase(process);
        return ended;
    }
    return {SIZE_MAX, "", 0};
}

bool CellRunner::is_free(size_t slot) const {
    return std::none_of(processes_.begin(), processes_.end(),
                        [&](const Process& process) { return process.slot == slot; });
}

void CellRunner::stop() {
    for (const Process& process : processes_) ::kill(process.pid, SIGUSR1);
}

}  // namespace pastur
