#pragma once
#include <string>

#include "engine/ranks/world.h"
#include "kernels/base/context.h"

namespace pastur {

/// The device of this rank among its host's ("auto", "cpu" or "cuda"): its own where there are enough, or
/// where it is shown only one. Throws as make_context().
Context rank_context(const std::string& device, const World& world);

}  // namespace pastur
