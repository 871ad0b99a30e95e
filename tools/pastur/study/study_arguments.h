#pragma once
// The command line of `pastur study`.
#include <cstdint>
#include <string>
#include <vector>

#include "tools/pastur/study/design.h"

namespace pastur {

struct StudyArguments {
    enum class Stage : uint8_t { kAll, kData, kRuns, kResults };

    std::string design, out, device = "auto", max_time, title, notes, tokenizer;
    DesignOptions options;
    std::vector<std::string> only, gpus, inputs;
    int64_t jobs = 0;          ///< 0: as many as --gpus has GPUs for, else 1
    int64_t gpus_per_run = 1;  ///< ranks of each run, one per GPU
    Stage stage = Stage::kAll;
    bool list = false;
    bool slurm = false, submit = true;
    std::string slurm_options;  ///< of sbatch, separated by spaces
    std::vector<Override> overrides;
};

}  // namespace pastur
