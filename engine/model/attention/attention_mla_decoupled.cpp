// Latent attention with one rotary sub-vector shared by all heads (VARIANTS: `mla-decoupled`; DeepSeek-V2,
// arXiv 2405.04434, section 2.1).
#include "engine/model/attention/latent_attention.h"

namespace pastur {

extern constinit const VariantInfo kMlaDecoupled = {
    .name = "mla-decoupled",
    .keys = {{"attention", "kv_rank"},
             {"attention", "nope_dim"},
             {"attention", "rope_dim"},
             {"attention", "v_dim"},
             {"attention", "q_rank"},
             {"attention", "latent_norm"},
             {"attention", "latent_gain"},
             {"attention", "qk_norm"}},
    .fill =
        [](RawRecipe& recipe) {
            latent_attention::fill_sizes(recipe);
            fill_split_heads(recipe);
        },
    .make = latent_attention::make,
    .core_widths = split_core_widths,
    .rope_width = [](const Config& c) { return c.attention.rope_dim; },
    .cache = latent_attention::cache,
    .qk_form = latent_attention::qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope},
};

}  // namespace pastur
