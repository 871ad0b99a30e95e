#pragma once
// Names of the matrices that spectral diagnostics can look at (diagnostics.scopes).
#include <string>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// Scopes that a variant has: head, layer, literal, weights; mla-decoupled content and rope too.
std::vector<std::string> spectral_scopes(const Config& config);
/// What is looked at where nobody chose: head, layer; mla-decoupled content and rope too.
std::vector<std::string> default_scopes(const Config& config);

}  // namespace pastur
