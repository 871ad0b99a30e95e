#pragma once
// What is in a checkpoint folder: model.safetensors (fp32 master weights under their Hugging Face names, the
// recipe as metadata), optimizer.rank*.safetensors (both Adam moments: optimizer_files.h), state.json
// (counters, data fingerprint).
#include <filesystem>

#include "engine/train/checkpoint/checkpoint_image.h"
#include "engine/train/checkpoint/train_state.h"

namespace pastur {

/// Writes rank 0's files into `folder`: everything except the other ranks' parts of the moments. Throws
/// (kIo).
void write_checkpoint_files(const std::filesystem::path& folder, const Config& config,
                            const CheckpointImage& image, const TrainState& state);

/// The reverse. Every tensor must be there with its shape; throws (kCorruptData, kMissingInput).
void read_checkpoint_files(const std::filesystem::path& folder, Context& ctx, Parameters& params,
                           AdamW& optimizer, TrainState& state);

/// The recipe a checkpoint was trained with, from model.safetensors' metadata.
Config read_checkpoint_config(const std::filesystem::path& folder);
/// The counters of a checkpoint, from state.json. Throws (kCorruptData, kMissingInput).
TrainState read_checkpoint_state(const std::filesystem::path& folder);
/// Throws (kCorruptData) unless the checkpoint holds every weight of a model of this table, in its shape.
void check_checkpoint_weights(const std::filesystem::path& folder, const ParamTable& table);
/// The weights alone, for evaluation.
void read_checkpoint_weights(const std::filesystem::path& folder, Context& ctx, Parameters& params);

/// Throws (kUsage) when training under `now` would not continue what `then` trained for `step` steps: one
/// line with every differing key of [model], [attention] and of the keys of [data] and [train] that change
/// the losses. train.steps may grow; returns a line about what that changes, or "".
std::string check_same_run(const Config& then, const Config& now, int64_t step);

/// Throws (kUsage) unless the weights of a model of `weights` are those of a model of `model`: one line with
/// every differing key of [model] and [attention].
void check_same_model(const Config& weights, const Config& model);

}  // namespace pastur
