#pragma once
// Whether training can continue from a checkpoint: the one check of `verify`, `eval` and `train --resume`.
#include <filesystem>
#include <functional>

#include "engine/config/config.h"
#include "engine/io/manifest.h"
#include "engine/train/checkpoint/train_state.h"

namespace pastur {

struct CheckedCheckpoint {
    Config config;
    TrainState state;
};

/// Checks every byte against the manifest and then the content: the manifest lists model.safetensors, state.json
/// and optimizer.rank0.safetensors to optimizer.rank<n>.safetensors, files of hf_file_names(), and nothing else; the files hold every
/// weight and moment of the recipe; folder name (if it is that of a step), state and moments agree on the step,
/// and the step and its number of tokens fit the recipe. Calls `visit` with each listed file. Throws
/// (kCorruptData) with the first problem, (kMissingInput, kIo).
CheckedCheckpoint check_checkpoint(const std::filesystem::path& folder,
                                   const std::function<void(const FileReport&)>& visit = {});

}  // namespace pastur
