#include "engine/train/stop_request.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <initializer_list>

namespace pastur {
namespace {

volatile std::sig_atomic_t stop_signal = 0;
volatile std::sig_atomic_t checkpoint_signal = 0;

using Clock = std::chrono::steady_clock;
Clock::time_point stop_time = Clock::time_point::max();

void on_stop(int signal) {
    if (signal == SIGINT) std::signal(SIGINT, SIG_DFL);
    stop_signal = 1;
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
    action.sa_handler = on_checkpoint;
    sigaction(SIGUSR2, &action, nullptr);
}

void request_stop_after(double seconds) {
    stop_time =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

bool stop_requested(const std::filesystem::path& run_dir) {
    return stop_signal != 0 || Clock::now() >= stop_time || ::access((run_dir / "STOP").c_str(), F_OK) == 0;
}

bool take_checkpoint_request() {
    const bool requested = checkpoint_signal != 0;
    checkpoint_signal = 0;
    return requested;
}

}  // namespace pastur
