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
#include <fstream>
#include <map>

#include "data/output.h"
#include "kernels/base/error.h"
#include "tools/pastur/study/cell_state.h"

namespace pastur {
namespace {

/// The arguments of `pastur train`, without the program's own name.
std::vector<std::string> arguments_of(const StudyCell& cell, const std::filesystem::path& folder,
                                      const std::string& device, double max_seconds) {
    std::vector<std::string> arguments = {"train", cell.recipe, "--run",    folder.string(), "--resume",
                                          "--log", "plain",     "--device", device};
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

/// The environment of this process with these variables over it.
std::vector<std::string> environment_with(const std::map<std::string, std::string>& variables) {
    std::vector<std::string> environment;
    for (char** entry = environ; *entry; ++entry) {
        const std::string_view text(*entry);
        if (!variables.contains(std::string(text.substr(0, text.find('='))))) environment.emplace_back(text);
    }
    for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
    return environment;
}

/// The processes that a process has started and that have not ended.
std::vector<pid_t> children_of(pid_t process) {
    std::vector<pid_t> children;
    std::error_code gone;
    for (const auto& thread :
         std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task", gone)) {
        std::ifstream list(thread.path() / "children");
        for (pid_t child = 0; list >> child;) children.push_back(child);
    }
    return children;
}

/// A new folder for the session files of mpirun. In its default folder an mpirun that ends removes those of another one.
std::filesystem::path make_sessions() {
    std::string name = (std::filesystem::temp_directory_path() / "pastur-study-XXXXXX").string();
    if (!::mkdtemp(name.data())) fail_io("cannot create a folder", name);
    return name;
}

}  // namespace

CellRunner::CellRunner(std::filesystem::path out, std::string device, CellSlots slots)
    : out_(std::move(out)), device_(std::move(device)), slots_(std::move(slots)) {
    if (!slots_.mpirun.empty()) sessions_ = make_sessions();
}

CellRunner::~CellRunner() {
    for (const Process& process : processes_) {
        ::kill(process.pid, SIGKILL);
        ::waitpid(process.pid, nullptr, 0);
    }
    std::error_code ignored;
    if (!sessions_.empty()) std::filesystem::remove_all(sessions_, ignored);
}

std::vector<std::string> CellRunner::environment_of(size_t slot) const {
    std::map<std::string, std::string> variables;
    if (!slots_.gpus.empty()) variables["CUDA_VISIBLE_DEVICES"] = slots_.gpus[slot % slots_.gpus.size()];
    if (slots_.threads > 0) variables["OMP_NUM_THREADS"] = std::to_string(slots_.threads);
    if (!sessions_.empty()) {
        const std::filesystem::path own = sessions_ / std::to_string(slot);
        std::filesystem::create_directories(own);
        variables["OMPI_MCA_orte_tmpdir_base"] = own.string();
    }
    return environment_with(variables);
}

void CellRunner::start(const StudyCell& cell, size_t slot, double max_seconds) {
    const std::filesystem::path log = log_of(out_, cell);
    std::filesystem::create_directories(log.parent_path());
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    const std::string program = slots_.mpirun.empty() ? self : slots_.mpirun;
    std::vector<std::string> arguments = {"pastur"};
    // -q: nothing of mpirun's own follows the error of a run in its log. By default it would bind the ranks of all runs to
    // the same cores.
    if (!slots_.mpirun.empty())
        arguments = {"mpirun", "-q", "--bind-to", "none", "-np", std::to_string(slots_.ranks), self};
    for (std::string& argument : arguments_of(cell, cell_folder(out_, cell), device_, max_seconds))
        arguments.push_back(std::move(argument));
    std::vector<std::string> environment = environment_of(slot);
    const std::vector<char*> argv = pointers_to(arguments), envp = pointers_to(environment);
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
    for (const Process& process : processes_) {
        // Not every mpirun forwards the signal.
        const std::vector<pid_t> ranks =
            slots_.mpirun.empty() ? std::vector<pid_t>() : children_of(process.pid);
        for (const pid_t rank : ranks) ::kill(rank, SIGUSR1);
        if (ranks.empty()) ::kill(process.pid, SIGUSR1);
    }
}

}  // namespace pastur
