// Latent attention without rotary embedding (VARIANTS: `mla-nope`).
#include "engine/model/attention/latent_attention.h"

namespace pastur {

extern constinit const VariantInfo kMlaNope = {
    .name = "mla-nope",
    .keys = latent_attention::kKeys,
    .fill = latent_attention::fill_sizes,
    .make = latent_attention::make,
    .core_widths = latent_attention::core_widths,
    .rope_width = [](const Config&) { return int64_t{0}; },
    .cache = latent_attention::cache,
    .qk_form = latent_attention::qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer},
};

}  // namespace pastur
