#pragma once
// How far the runs of a study are, read from their folders.
#include <filesystem>
#include <string>

#include "tools/pastur/study/design.h"

namespace pastur {

/// Where a study keeps what: <out>/runs/<cell> (a run folder and statistics.json, or config.toml and statistics.json
/// alone), <out>/logs/<cell>.log, <out>/study.json, <out>/report.html.
std::filesystem::path cell_folder(const std::filesystem::path& out, const StudyCell& cell);
std::filesystem::path log_of(const std::filesystem::path& out, const StudyCell& cell);

struct CellState {
    enum class Status : uint8_t {
        kWaiting,
        kRunning,  ///< its log changed within ten minutes, or another process holds the run folder
        kStopped,  ///< by request, or killed: it will be resumed
        kFailed,   ///< its last attempt ended with an error
        kDone,
    };
    Status status = Status::kWaiting;
    int64_t step = 0, steps = 0;  ///< reached, and to be reached
    double elapsed_s = 0;         ///< of training, over all attempts
    std::string error = {};       ///< kFailed: the line that the run printed
};
const char* name_of(CellState::Status status);

/// Throws (kIo, kCorruptData) for a log or a record that cannot be read.
CellState state_of(const std::filesystem::path& out, const StudyCell& cell);

/// Throws (kUsage) if the cell has a run folder that was made with other settings than the design's. More
/// train.steps are a continuation; run.* and diagnostics that change no bit are not compared.
void check_same_settings(const std::filesystem::path& out, const StudyCell& cell);

/// The last line that the program printed about a failure, from the end of a log; empty: none.
std::string last_error(const std::filesystem::path& log);

}  // namespace pastur
