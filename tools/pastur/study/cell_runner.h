#pragma once
// Runs the cells of a study as processes of this program.
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tools/pastur/study/cell_slots.h"
#include "tools/pastur/study/design.h"

namespace pastur {

/// Starts `pastur train` processes, or one mpirun for the ranks of each run, and waits for them. A process that starts
/// them and dies, by whatever signal, takes them along; their runs are resumed by the next one.
class CellRunner {
  public:
    /// device: --device of each run. Throws (kIo).
    CellRunner(std::filesystem::path out, std::string device, CellSlots slots);
    ~CellRunner();
    CellRunner(const CellRunner&) = delete;
    CellRunner& operator=(const CellRunner&) = delete;

    /// Trains `cell` in its folder, or resumes it, for at most max_seconds (0: no limit). Output goes to its log.
    /// Throws (kIo).
    void start(const StudyCell& cell, size_t slot, double max_seconds);

    struct Ended {
        size_t slot;
        std::string cell;
        int code;  ///< exit code, or 128 + the signal
    };
    /// A process that has ended since the last call; slot == SIZE_MAX: none yet.
    Ended poll();
    size_t running() const { return processes_.size(); }
    bool is_free(size_t slot) const;
    /// Asks all processes to finish their step and checkpoint.
    void stop();

  private:
    std::vector<std::string> environment_of(size_t slot) const;

    struct Process {
        pid_t pid;
        size_t slot;
        std::string cell;
    };
    std::filesystem::path out_;
    std::string device_;
    CellSlots slots_;
    std::filesystem::path sessions_;  ///< of mpirun; empty: none
    std::vector<Process> processes_;
};

}  // namespace pastur
