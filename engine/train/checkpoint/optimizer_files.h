#pragma once
// The optimizer's state in a checkpoint. One rank with all state writes whole tensors (<name>.exp_avg,
// <name>.exp_avg_sq; <name>.momentum of a matrix that Muon updates) to optimizer.rank0.safetensors. If the
// state is divided over the ranks, each rank writes a file of parts. A part <name>.exp_avg@<first> holds the
// elements of the stored tensor from index <first> on. Both forms can be read on any number of ranks. Numbers
// have the format in which they are kept. An imported checkpoint, of step 0, has no file.
#include <filesystem>

#include "engine/train/checkpoint/checkpoint_image.h"

namespace pastur {

/// The file with the parts of a rank.
std::filesystem::path moments_file(const std::filesystem::path& folder, int64_t rank);

/// Writes the parts of `rank` to its file, which appears under its name once it is complete. Throws (kIo).
void write_moment_parts(const std::filesystem::path& folder, const CheckpointImage& image, int rank,
                        int64_t step);

/// Throws (kCorruptData) unless the files hold the optimizer's state of the table exactly once and were
/// written at `step`; (kMissingInput, kIo). Reads headers only.
void check_moments(const std::filesystem::path& folder, const TrainConfig& config, const ParamTable& table,
                   int64_t step);

/// Reads the state that the optimizer owns, from any number of files. Throws (kCorruptData) unless the files
/// hold all state exactly once, (kMissingInput) for an imported checkpoint. step: of the checkpoint.
void read_moments(const std::filesystem::path& folder, Context& ctx, const ParamTable& table,
                  Optimizer& optimizer, int64_t step);

}  // namespace pastur
