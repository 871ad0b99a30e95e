#pragma once
#include <filesystem>

namespace pastur {

/// Installs handlers for SIGINT, SIGTERM and SIGUSR1 (finish the step, checkpoint, exit 75) and SIGUSR2
/// (checkpoint and go on). A second SIGINT ends the process at once.
void install_signal_handlers();

/// From so many seconds from now on, a stop counts as requested.
void request_stop_after(double seconds);

/// True once a stop was requested by signal or time, or while a file STOP lies in run_dir.
bool stop_requested(const std::filesystem::path& run_dir);

/// True once for every SIGUSR2 since the last call.
bool take_checkpoint_request();

}  // namespace pastur
