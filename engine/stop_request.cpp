#include "engine/stop_request.h"

#include <csignal>
#include <initializer_list>

namespace pastur {
namespace {

volatile std::sig_atomic_t stop_signal = 0;
volatile std::sig_atomic_t checkpoint_signal = 0;

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

bool stop_requested(const std::filesystem::path& run_dir) {
    std::error_code ignored;
    return stop_signal != 0 || std::filesystem::exists(run_dir / "STOP", ignored);
}

bool take_checkpoint_request() {
    const bool requested = checkpoint_signal != 0;
    checkpoint_signal = 0;
    return requested;
}

}  // namespace pastur
