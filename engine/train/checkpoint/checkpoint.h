#pragma once
// The files of a checkpoint folder: model.safetensors (master weights under their Hugging Face names in the
// format train.weights, the recipe as metadata), optimizer.rank*.safetensors (optimizer_files.h), state.json
// (counters, fingerprints of the data) and those that Hugging Face transformers reads (hf_files.h).
#include <filesystem>

#include "engine/train/checkpoint/checkpoint_image.h"
#include "engine/train/checkpoint/train_state.h"
#include "engine/train/hugging_face/hf_files.h"

namespace pastur {

inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kStateFile = "state.json";

/// The metadata of model.safetensors.
StringMap checkpoint_metadata(const Config& config);
/// Writes state.json. Throws (kIo).
void write_checkpoint_state(const std::filesystem::path& folder, const TrainState& state);

/// Writes rank 0's files into `folder`: everything except the other ranks' parts of the moments. hf_files:
/// hf_checkpoint_files(). Throws (kIo).
void write_checkpoint_files(const std::filesystem::path& folder, const Config& config,
                            const CheckpointImage& image, const TrainState& state,
                            const std::vector<TextFile>& hf_files);

/// Reads what write_checkpoint_files() and the other ranks wrote. Throws (kCorruptData, kMissingInput) if a
/// tensor is missing or has another shape.
void read_checkpoint_files(const std::filesystem::path& folder, Context& ctx, Parameters& params,
                           Optimizer& optimizer, TrainState& state);

/// The recipe of a checkpoint, from the metadata of model.safetensors.
Config read_checkpoint_config(const std::filesystem::path& folder);
/// The counters of a checkpoint, from state.json. Throws (kCorruptData, kMissingInput, kIo).
TrainState read_checkpoint_state(const std::filesystem::path& folder);
/// Throws (kCorruptData) unless the checkpoint holds every weight of the table with its shape, in the format
/// train.weights.
void check_checkpoint_weights(const std::filesystem::path& folder, const TrainConfig& config,
                              const ParamTable& table);
/// Reads only the weights, in fp32 or bf16; converts them where params has the other format.
void read_checkpoint_weights(const std::filesystem::path& folder, Context& ctx, Parameters& params);

/// Throws (kUsage) unless training with `now` continues the run that `then` trained for `step` steps. The
/// message names every differing key of [model] and [attention] and of those keys of [data] and [train] that
/// change the losses. train.steps may grow; returns a line about what that changes, or "".
std::string check_same_run(const Config& then, const Config& now, int64_t step);

/// Throws (kUsage) unless weights of the recipe `weights` fit the recipe `model`. The message names every
/// differing key of [model] and [attention].
void check_same_model(const Config& weights, const Config& model);

}  // namespace pastur
