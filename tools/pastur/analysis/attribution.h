#pragma once
// What each part of the design changes: differences between groups of the factorial of variants.
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "tools/pastur/analysis/groups.h"

namespace pastur {

/// "attribution" of analysis.h, for the pairs of groups that are there: one arm's variants that differ in where keys are
/// rotated or in whether keys and values are compressed, and arms of a variant that differ in latent_gain alone.
nlohmann::ordered_json attribution_json(std::span<const RunGroup> groups);

}  // namespace pastur
