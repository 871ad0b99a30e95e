#pragma once
// What train.recompute costs, and the choice of `auto`.
#include <cstdint>
#include <span>

#include "engine/config/config.h"
#include "engine/model/param_table.h"

namespace pastur {

/// The share of the free memory that a plan may take under train.recompute = "auto". The rest is for what no
/// plan contains: kernels and libraries, which are loaded when they are first called, CUDA graphs, NCCL's
/// buffers, the host's other needs.
inline constexpr double kRecomputeAutoShare = 0.9;
/// The first level whose plan, of totals[level] bytes, is within that share; the last level if none is.
Recompute first_that_fits(std::span<const int64_t> totals, int64_t free_bytes);

/// FLOPs per token of GEMMs and attention that are recomputed, beyond the model's own.
double recompute_flops_per_token(Recompute level, const Config& config, const ParamTable& table);

}  // namespace pastur
