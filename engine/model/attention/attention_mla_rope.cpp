// Latent attention with rotary embedding after decompression (VARIANTS: `mla-rope`): every head's keys are
// rotated at full width, so a cache holds the latent and rotates what it decompresses.
#include "engine/model/attention/latent_attention.h"

namespace pastur {

extern constinit const VariantInfo kMlaRope = {
    .name = "mla-rope",
    .keys = latent_attention::kKeys,
    .fill =
        [](RawRecipe& recipe) {
            latent_attention::fill_sizes(recipe);
            check_even(recipe, "model", "head_dim", recipe.config.model.head_dim);
        },
    .make = latent_attention::make,
    .core_widths = latent_attention::core_widths,
    .rope_width = [](const Config& c) { return c.model.head_dim; },
    .cache = latent_attention::cache,
    .qk_form = latent_attention::qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer},
};

}  // namespace pastur
