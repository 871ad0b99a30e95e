#include "engine/model/attention.h"

namespace pastur {

void Attention::plan_kernels(Context& ctx, Planner& planner, const AttentionInputs& in) {
    planner.need_scratch(causal_attention_backward_scratch_bytes(ctx, in));
    fallback_ = causal_attention_fallback(ctx, in);
}

void Attention::plan_rotation(Context& ctx, const Linear& product, int64_t head) {
    const std::string text = product.rotating_fallback(ctx, head);
    if (!text.empty() && !fallback_.empty()) fallback_ += "\n";
    fallback_ += text;
}

}  // namespace pastur
