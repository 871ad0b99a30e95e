#include "engine/config/scopes.h"

#include "engine/config/config_fields.h"

namespace pastur {

std::vector<std::string> spectral_scopes(const Config& config) {
    if (variant_of(config) == kDecoupled) return {"head", "layer", "content", "rope", "literal", "weights"};
    return {"head", "layer", "literal", "weights"};
}

std::vector<std::string> default_scopes(const Config& config) {
    if (variant_of(config) == kDecoupled) return {"head", "layer", "content", "rope"};
    return {"head", "layer"};
}

}  // namespace pastur
