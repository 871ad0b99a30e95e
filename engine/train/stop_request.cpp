#include "engine/train/stop_request.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <initializer_list>

namespace pastur {
namespace {

volatile std::sig_atomic_t stop_signal = 0;
volatile std::sig_atomic_t stop_signal_count = 0;
volatile std::sig_atomic_t checkpoint_signal = 0;

using Clock = std::chrono::steady_clock;
Clock::time_point stop_time = Clock::time_point::max();

void on_stop(int signal) {
    if (signal == SIGINT) std::signal(SIGINT, SIG_DFL);
    stop_signal = signal;
    stop_signal_count = stop_signal_count + 1;
}
void on_checkpoint(int) {
    checkpoint_signal = 1;
}

}  // namespace

void install_signal_handlers() {
    struct sigaction action {};
    action.sa_flags = SA_RESTART;  // a signal must not turn a write into an I/O error
    action.sa_handler = on_stop;
    for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    action.sa_handler = on_checkpoint;
    sigaction(SIGUSR2, &action, nullptr);
}

void request_stop_after(double seconds) {
    stop_time =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

namespace {

bool has_stop_file(const std::filesystem::path& run_dir) {
    return ::access((run_dir / kStopFile).c_str(), F_OK) == 0;
}

}  // namespace

bool stop_requested(const std::filesystem::path& run_dir) {
    return stop_signal != 0 || Clock::now() >= stop_time || has_stop_file(run_dir);
}

std::string stop_reason(const std::filesystem::path& run_dir) {
    // The file comes first, because it also stops every resumed run until it is removed.
    if (has_stop_file(run_dir)) return "the file " + (run_dir / kStopFile).string();
    if (stop_signal == SIGINT) return "SIGINT";
    if (stop_signal == SIGTERM) return "SIGTERM";
    if (stop_signal == SIGHUP) return "SIGHUP";
    if (stop_signal != 0) return "SIGUSR1";
    return Clock::now() >= stop_time ? "--max-time" : "";
}

int stop_signals() {
    return stop_signal_count;
}

void handle_interrupt_again() {
    if (stop_signal != SIGINT) return;
    struct sigaction action {};
    action.sa_flags = SA_RESTART;
    action.sa_handler = on_stop;
    sigaction(SIGINT, &action, nullptr);
}

bool take_checkpoint_request() {
    const bool requested = checkpoint_signal != 0;
    checkpoint_signal = 0;
    return requested;
}

}  // namespace pastur
