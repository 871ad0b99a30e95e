#include "tools/pastur/doctor/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <string_view>

#include "data/file_descriptor.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kMostOutput = 64 << 10;

struct Pipe {
    FileDescriptor read, write;
};

Pipe make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail_io("cannot make", "a pipe");
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

/// The child between fork and exec, where only async-signal-safe calls are allowed.
[[noreturn]] void become(const char* program, char* const* arguments, char* const* environment, int out,
                         int err, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    ::setpgid(0, 0);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_DFL);
    ::execve(program, arguments, environment);
    ::_exit(127);
}

/// Reads both pipes until they are closed. False: they are open at the deadline.
bool read_until(Clock::time_point deadline, Pipe& out, Pipe& err, ChildResult& result) {
    std::array<pollfd, 2> open = {pollfd{out.read.get(), POLLIN, 0}, pollfd{err.read.get(), POLLIN, 0}};
    std::array<std::string*, 2> texts = {&result.out, &result.err};
    while (open[0].fd >= 0 || open[1].fd >= 0) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0) return false;
        if (::poll(open.data(), open.size(), static_cast<int>(std::min<int64_t>(left, 1000))) < 0 &&
            errno != EINTR)
            return true;
        for (size_t i = 0; i < open.size(); ++i) {
            if (open[i].fd < 0 || (open[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
            std::array<char, 4096> block{};
            const ssize_t count = ::read(open[i].fd, block.data(), block.size());
            if (count < 0 && errno == EINTR) continue;
            if (count <= 0) {
                open[i].fd = -1;
                continue;
            }
            texts[i]->append(block.data(),
                             std::min(static_cast<size_t>(count), kMostOutput - texts[i]->size()));
        }
    }
    return true;
}

/// Waits for the process. False: it runs at the deadline.
bool wait_until(Clock::time_point deadline, pid_t pid, int& status) {
    while (::waitpid(pid, &status, WNOHANG) == 0) {
        if (Clock::now() >= deadline) return false;
        ::usleep(10'000);
    }
    return true;
}

}  // namespace

ChildResult run_child(const std::string& program, std::vector<std::string> arguments,
                      const std::vector<std::string>& variables, double seconds) {
    const auto is_replaced = [&](std::string_view entry) {
        return std::any_of(variables.begin(), variables.end(), [&](const std::string& variable) {
            return entry.starts_with(std::string_view(variable).substr(0, variable.find('=') + 1));
        });
    };
    std::vector<std::string> environment = variables;
    for (char** entry = environ; *entry; ++entry)
        if (!is_replaced(*entry)) environment.emplace_back(*entry);
    const std::vector<char*> argv = pointers_to(arguments), envp = pointers_to(environment);
    Pipe out = make_pipe(), err = make_pipe();
    const pid_t parent = ::getpid(), pid = ::fork();
    if (pid == 0) become(program.c_str(), argv.data(), envp.data(), out.write.get(), err.write.get(), parent);
    if (pid < 0) fail_io("cannot start", program);
    ::setpgid(pid, pid);  // whichever process is first
    out.write = {};
    err.write = {};
    ChildResult result;
    int status = 0;
    const auto deadline =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    if (!read_until(deadline, out, err, result) || !wait_until(deadline, pid, status)) {
        result.timed_out = true;
        ::kill(-pid, SIGTERM);
        const bool ended = wait_until(Clock::now() + std::chrono::seconds(2), pid, status);
        ::kill(-pid, SIGKILL);  // also ranks that their launcher left behind
        if (!ended) ::waitpid(pid, &status, 0);
    }
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
}

}  // namespace pastur
