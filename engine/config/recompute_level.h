#pragma once
// The levels of train.recompute: which activations the backward pass recomputes (Chen et al., arXiv 1604.06174).
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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

}  // namespace pastur
