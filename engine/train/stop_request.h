#pragma once
// Requests to end a run early or to write a checkpoint, from signals, the clock and the run folder.
#include <filesystem>
#include <string>

namespace pastur {

/// Installs handlers for SIGINT, SIGTERM, SIGHUP and SIGUSR1 (finish the step, checkpoint, exit 75) and SIGUSR2
/// (checkpoint and continue), and ignores SIGPIPE: a write to a pipe that nothing reads fails. A SIGHUP that is
/// ignored, as by nohup, stays so. A second SIGINT ends the process at once. May be called before main().
void install_signal_handlers();

/// Requests a stop that many seconds from now.
void request_stop_after(double seconds);

/// A file of this name in a run folder stops the run while it exists.
inline constexpr const char* kStopFile = "STOP";

/// True once a stop was requested by signal or time, or while the run folder holds a stop file.
bool stop_requested(const std::filesystem::path& run_dir);

/// What requested the stop: "SIGTERM", "--max-time" or "the file <run_dir>/STOP"; empty: nothing did.
std::string stop_reason(const std::filesystem::path& run_dir);

/// The number of stop signals that have arrived so far.
int stop_signals();

/// After a SIGINT, the next one counts as a stop signal again instead of ending the process.
void handle_interrupt_again();

/// True once after one or more SIGUSR2 since the last call.
bool take_checkpoint_request();

}  // namespace pastur
