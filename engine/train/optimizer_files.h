#pragma once
// Adam's moments in a checkpoint: whole in optimizer.rank0.safetensors (<name>.exp_avg, <name>.exp_avg_sq),
// or, where they are divided over the ranks, a file of parts from each. Parts are named
// <name>.exp_avg@<first>: the elements of a tensor, as it is stored, from that one on. Either can be read on
// any number of ranks.
#include <filesystem>

#include "engine/train/optimizer.h"

namespace pastur {

/// The file of a rank's parts.
std::filesystem::path moments_file(const std::filesystem::path& folder, int64_t rank);

/// Writes it; it has its name once it is whole. Throws (kIo).
void write_moment_parts(const std::filesystem::path& folder, Context& ctx, const ParamTable& table,
                        const AdamW& optimizer, int rank, int64_t step);

/// What the optimizer owns, from however many files there are. Throws (kCorruptData) when they do not hold
/// every moment exactly once.
void read_moments(const std::filesystem::path& folder, Context& ctx, const ParamTable& table,
                  AdamW& optimizer);

}  // namespace pastur
