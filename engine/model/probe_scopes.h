#pragma once
// diagnostics.scopes that measure activations on the probe. Every variant has them.
#include <algorithm>

#include "engine/config/config.h"

namespace pastur {

constexpr bool reads_probe(Scope scope) {
    return scope == Scope::kLogits || scope == Scope::kLatents;
}

/// Whether diagnostics measure activations.
inline bool measures_activations(const DiagnosticsConfig& config) {
    return config.every > 0 && std::any_of(config.scopes.begin(), config.scopes.end(), reads_probe);
}
/// Whether diagnostics decompose weights.
inline bool measures_weights(const DiagnosticsConfig& config) {
    return config.every > 0 && !std::all_of(config.scopes.begin(), config.scopes.end(), reads_probe);
}
inline bool measures(const DiagnosticsConfig& config, Scope scope) {
    return config.every > 0 &&
           std::find(config.scopes.begin(), config.scopes.end(), scope) != config.scopes.end();
}

}  // namespace pastur
