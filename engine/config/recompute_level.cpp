#include "engine/config/recompute_level.h"

#include <algorithm>

#include "kernels/base/error.h"

namespace pastur {

const std::vector<std::string>& recompute_names() {
    static const std::vector<std::string> names = {"none", "norms", "ffn", "block"};
    return names;
}

const std::string& name_of(Recompute level) {
    return recompute_names()[static_cast<size_t>(level)];
}

std::optional<Recompute> recompute_level(const std::string& name) {
    if (name == kRecomputeAuto) return {};
    const std::vector<std::string>& names = recompute_names();
    const auto found = std::find(names.begin(), names.end(), name);
    PASTUR_CHECK(found != names.end(), "train.recompute = \"{}\"", name);
    return static_cast<Recompute>(found - names.begin());
}

}  // namespace pastur
