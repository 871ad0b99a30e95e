#include "engine/model/attention.h"

namespace pastur {

std::unique_ptr<Attention> make_attention(const Config& config, Parameters& params,
                                          const std::string& prefix) {
    const std::string& variant = config.attention.variant;
    if (variant == "mha") return make_attention_mha(config, params, prefix);
    if (variant == "mla-prerope") return make_attention_mla_prerope(config, params, prefix);
    if (variant == "mla-decoupled") return make_attention_mla_decoupled(config, params, prefix);
    fail(ExitCode::kUsage, "attention.variant = \"{}\": expected mha, mla-prerope or mla-decoupled", variant);
}

void Attention::plan_kernels(Context& ctx, Planner& planner, const AttentionInputs& in) {
    planner.need_scratch(causal_attention_backward_scratch_bytes(ctx, in));
    fallback_ = causal_attention_fallback(ctx, in);
}

void Attention::plan_rotation(Context& ctx, const Linear& product, int64_t head) {
    const std::string text = product.rotating_fallback(ctx, head);
    if (!text.empty() && !fallback_.empty()) fallback_ += "\n";
    fallback_ += text;
}

int64_t rope_width(const Config& config) {
    return config.attention.variant == "mla-decoupled" ? config.attention.rope_dim : config.model.head_dim;
}

int64_t cache_values_per_token(const Config& config) {
    const AttentionConfig& attention = config.attention;
    if (attention.variant == "mla-decoupled") return attention.kv_rank + attention.rope_dim;
    if (attention.variant == "mla-prerope")
        return attention.prerope_site == "input" ? attention.kv_rank : attention.k_rank + attention.v_rank;
    return 2 * config.model.kv_heads * config.model.head_dim;
}

CoreWidths core_widths(const Config& config) {
    const AttentionConfig& attention = config.attention;
    if (attention.variant == "mla-decoupled")
        return {attention.nope_dim + attention.rope_dim, attention.v_dim};
    return {config.model.head_dim, config.model.head_dim};
}

}  // namespace pastur
