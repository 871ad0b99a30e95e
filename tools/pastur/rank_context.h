#pragma once
#include <string>

#include "engine/ranks/world.h"
#include "kernels/base/context.h"

namespace pastur {

/// A context on this rank's device ("auto", "cpu" or "cuda"). Ranks of a host take its visible GPUs in turn.
/// Throws as make_context().
Context rank_context(const std::string& device, const World& world);

}  // namespace pastur
