#pragma once
// Multi-head attention without latents, with or without rotary embedding: the variants `mha` and `mha-nope`.
// kv_heads < heads gives grouped queries.
#include "engine/model/attention/attention.h"

namespace pastur::multi_head {

// For VariantInfo. The attention rotates queries and keys where forward() receives a rotary table.
std::unique_ptr<Attention> make(const Config& config, Parameters& params, const std::string& prefix);
CoreWidths core_widths(const Config& config);
CacheLayout cache(const Config& config);
QkForm qk_form(const Config& config);

}  // namespace pastur::multi_head
