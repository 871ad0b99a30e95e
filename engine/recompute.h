#pragma once
// What backward computes again instead of having it kept (Chen et al., arXiv 1604.06174): train.recompute.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/param_table.h"

namespace pastur {

/// Each level computes again what the one before it does, and more. None changes a bit of a gradient: the
/// same ops see the same operands.
enum class Recompute : uint8_t {
    kNone,
    kNorms,  ///< what a pass over memory makes: the layers' normalised inputs, the product in SwiGLU
    kFfn,    ///< also gate and up, by their matrix product
    kBlock,  ///< also the attention half: of a layer, only its input is kept
};

/// What train.recompute says where the device's memory decides.
inline constexpr const char* kRecomputeAuto = "auto";
/// As train.recompute names them, by level.
const std::vector<std::string>& recompute_names();
const std::string& name_of(Recompute level);
/// Of a value of train.recompute; none of kRecomputeAuto.
std::optional<Recompute> recompute_level(const std::string& name);

/// The share of the free memory that kRecomputeAuto lets a plan take. The rest is for what no plan has:
/// kernels and libraries that are loaded when they are first called, CUDA graphs, NCCL's buffers, the host's
/// other needs.
inline constexpr double kRecomputeAutoShare = 0.9;
/// The level of the first plan, of totals[level] bytes, within that share; of the last where none is.
Recompute first_that_fits(std::span<const int64_t> totals, int64_t free_bytes);

/// FLOPs per token that are spent beyond the model's own: matrix products and attention computed again.
double recompute_flops_per_token(Recompute level, const Config& config, const ParamTable& table);

}  // namespace pastur
