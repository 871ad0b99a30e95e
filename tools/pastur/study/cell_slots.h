#pragma once
// How many runs of a study are trained at a time, and with which GPUs and ranks.
#include <cstdint>
#include <string>
#include <vector>

#include "tools/pastur/study/study_arguments.h"

namespace pastur {

struct CellSlots {
    size_t count = 1;         ///< runs at the same time
    int64_t ranks = 1;        ///< of each run, one per GPU
    std::string mpirun = {};  ///< its path; empty: a run is one process
    std::vector<std::string> gpus =
        {};               ///< CUDA_VISIBLE_DEVICES of the slots in turn; empty: every run sees all GPUs
    int64_t threads = 0;  ///< OMP_NUM_THREADS of a rank; 0: as it is
};

/// The GPUs by groups of `each`, as CUDA_VISIBLE_DEVICES has them: {"0,1", "2,3"}. Leaves out what is over.
std::vector<std::string> groups_of_gpus(const std::vector<std::string>& gpus, int64_t each);

/// Runs have the GPUs of --gpus; without it, runs that are trained at the same time or by several ranks have the visible
/// ones. Throws (kUsage) if --gpus does not make groups of --gpus-per-run, (kNoDevice) for fewer visible GPUs than a run
/// needs, and for several ranks in a build without MPI (kUsage) or without mpirun on PATH (kMissingInput).
CellSlots cell_slots(const StudyArguments& arguments);

}  // namespace pastur
