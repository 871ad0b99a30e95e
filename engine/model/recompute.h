#pragma once
// What backward computes again instead of having it kept (Chen et al., arXiv 1604.06174): train.recompute.
#include <cstdint>
#include <span>

#include "engine/config/config.h"
#include "engine/model/param_table.h"

namespace pastur {

/// The share of the free memory that kRecomputeAuto lets a plan take. The rest is for what no plan has:
/// kernels and libraries that are loaded when they are first called, CUDA graphs, NCCL's buffers, the host's
/// other needs.
inline constexpr double kRecomputeAutoShare = 0.9;
/// The level of the first plan, of totals[level] bytes, within that share; of the last where none is.
Recompute first_that_fits(std::span<const int64_t> totals, int64_t free_bytes);

/// FLOPs per token that are spent beyond the model's own: matrix products and attention computed again.
double recompute_flops_per_token(Recompute level, const Config& config, const ParamTable& table);

}  // namespace pastur
