// Multi-head attention as in Llama (VARIANTS: `mha`).
#include "engine/model/attention/multi_head.h"

namespace pastur {

extern constinit const VariantInfo kMha = {
    .name = "mha",
    .keys = {{"model", "kv_heads"}, {"attention", "qk_norm"}},
    .fill = [](RawRecipe& recipe) { check_even(recipe, "model", "head_dim", recipe.config.model.head_dim); },
    .make = multi_head::make,
    .core_widths = multi_head::core_widths,
    .rope_width = [](const Config& c) { return c.model.head_dim; },
    .cache = multi_head::cache,
    .qk_form = multi_head::qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer},
};

}  // namespace pastur
