// Multi-head attention without rotary embedding (VARIANTS: `mha-nope`): the causal mask alone tells positions
// apart.
#include "engine/model/attention/multi_head.h"

namespace pastur {

extern constinit const VariantInfo kMhaNope = {
    .name = "mha-nope",
    .keys = {{"model", "kv_heads"}, {"attention", "qk_norm"}},
    .fill = [](RawRecipe&) {},
    .make = multi_head::make,
    .core_widths = multi_head::core_widths,
    .rope_width = [](const Config&) { return int64_t{0}; },
    .cache = multi_head::cache,
    .qk_form = multi_head::qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer},
};

}  // namespace pastur
