#include "engine/model/attention/attention.h"

#include <cmath>

#include "kernels/attention/cache_append.h"

namespace pastur {

Attention::Attention(const Config& config, Parameters& params)
    : params_(params),
      width_(config.model.d_model),
      heads_(config.model.heads),
      core_(variant_of(config).core_widths(config)),
      scale_(1.0f / std::sqrt(static_cast<float>(core_.qk))),
      cache_layout_(variant_of(config).cache(config)) {}

void Attention::add_o_proj(const std::string& prefix) {
    o_proj_ = Linear(params_, params_.table().add_matrix(prefix + "o_proj.weight", width_, heads_ * core_.v));
}

void Attention::plan_core(Context& ctx, Planner& planner, Planner::Temporaries& temporaries,
                          const BatchShape& shape) {
    shape_ = shape;
    const DType dtype = params_.compute_dtype();
    o_ = planner.keep(dtype, {shape.tokens(), heads_ * core_.v});
    lse_ = planner.keep(DType::kF32, {shape.batch, heads_, shape.time});
    do_ = temporaries.take(dtype, o_.shape());
    planner.need_scratch(causal_attention_backward_scratch_bytes(ctx, inputs()));
    kernels_ = causal_attention_kernels(ctx, inputs());
    add_kernels_line(causal_attention_fallback(ctx, inputs()));
    o_proj_.plan(ctx, planner, shape.tokens(), {.dy = true});
}

void Attention::plan_rotation(Context& ctx) {
    add_kernels_line(in_proj_.rotating_fallback(ctx, core_.qk));
}

void Attention::add_kernels_line(const std::string& text) {
    if (!text.empty()) kernels_ += "\n" + text;
}

void Attention::forward_core(Context& ctx, Tensor out, ConstTensor residual, const RotaryColumns& rotary) {
    causal_attention_forward(ctx, heads_of(o_, heads_, core_.v), lse_, inputs(), rotary, max_logit_);
    o_proj_.forward(ctx, out, o_, residual);
}

DecodeInputs Attention::decode_operands(const DecodeStep& step, const Tensor& q, const Tensor& k,
                                        const Tensor& v, const Tensor& k_shared) const {
    DecodeInputs in = {.q = q,
                       .q_shared = {},
                       .k = k,
                       .k_shared = {},
                       .v = v,
                       .lengths = step.lengths,
                       .longest = step.longest,
                       .scale = scale_};
    if (k_shared.empty()) return in;
    const int64_t shared = k_shared.size(3), content = q.size(2) - shared;
    in.q = q.slice(2, 0, content);
    in.q_shared = q.slice(2, content, shared);
    in.k_shared = k_shared.reshape({k_shared.size(0), k_shared.size(1), shared});
    return in;
}

void Attention::append(Context& ctx, const DecodeStep& step, const LayerCache& cache) {
    const std::vector<ConstTensor> rows = cached();
    for (size_t i = 0; i < rows.size(); ++i) {
        const Tensor part = cache.parts[i];
        const Tensor slots = part.reshape({part.size(0), part.size(1), part.size(2) * part.size(3)});
        cache_append(ctx, slots, rows[i], step.positions, cache_layout_.stride,
                     cache_layout_.parts[i].summed);
    }
}

void Attention::backward_core(Context& ctx, const AttentionGrads& grads, const LinearInput& dout,
                              Update update) {
    o_proj_.backward_weight(ctx, dout.numbers, o_, update);
    o_proj_.backward_input(ctx, do_, dout);
    causal_attention_backward(ctx, grads, heads_of(do_, heads_, core_.v), heads_of(o_, heads_, core_.v), lse_,
                              inputs());
}

}  // namespace pastur
