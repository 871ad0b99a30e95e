#pragma once
// Keys and values from one latent, normalised unless attention.latent_norm is false: the variants `mla-decoupled`, `mla-rope` and `mla-nope`.
#include "engine/model/attention/attention.h"

namespace pastur::latent_attention {

// For VariantInfo.
/// Keys of the variants without shared columns.
inline constexpr std::initializer_list<VariantKey> kKeys = {
    {"attention", "kv_rank"},     {"attention", "v_dim"},       {"attention", "q_rank"},
    {"attention", "latent_norm"}, {"attention", "latent_gain"}, {"attention", "qk_norm"}};
/// Heads of CoreWidths: qk - shared columns of a key come from the latent, `shared` are one key for all
/// heads. Where forward() receives a rotary table, it rotates the shared columns, or all columns if there are none.
std::unique_ptr<Attention> make(const Config& config, Parameters& params, const std::string& prefix);
/// Fills and checks attention.kv_rank, v_dim, q_rank and latent_norm, whose default is true.
void fill_sizes(RawRecipe& recipe);
/// Without shared columns: model.head_dim and attention.v_dim.
CoreWidths core_widths(const Config& config);
/// The latent and, where columns are shared, the rotary key.
CacheLayout cache(const Config& config);
/// A sum of content and rotary part where columns are shared.
QkForm qk_form(const Config& config);

}  // namespace pastur::latent_attention
