#pragma once
// What backward computes again instead of having it kept (Chen et al., arXiv 1604.06174): train.recompute.
#include <cstdint>
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

/// As train.recompute names them, by level.
const std::vector<std::string>& recompute_names();
Recompute recompute_level(const std::string& name);

/// FLOPs per token that are spent beyond the model's own: matrix products and attention computed again.
double recompute_flops_per_token(const Config& config, const ParamTable& table);

}  // namespace pastur
