// Multi-head attention as in Llama; kv_heads < heads gives grouped queries (VARIANTS: `mha`).
#include <cmath>

#include "engine/model/attention.h"

namespace pastur {
namespace {

class MultiHeadAttention final : public Attention {
  public:
    MultiHeadAttention(const Config& config, Parameters& params, const std::string& prefix)
        : params_(params),
          heads_(config.model.heads),
          kv_heads_(config.model.kv_heads),
          head_dim_(config.model.head_dim) {
        const int64_t width = config.model.d_model;
        qkv_proj_ = Linear(
            params, params.table().add_matrix_group({{prefix + "q_proj.weight", heads_ * head_dim_},
                                                     {prefix + "k_proj.weight", kv_heads_ * head_dim_},
                                                     {prefix + "v_proj.weight", kv_heads_ * head_dim_}},
                                                    width));
        o_proj_ =
            Linear(params, params.table().add_matrix(prefix + "o_proj.weight", width, heads_ * head_dim_));
    }

    void plan(Context& ctx, Planner& planner, const BatchShape& shape) override {
        shape_ = shape;
        const DType dtype = params_.compute_dtype();
        const int64_t tokens = shape.tokens(), qkv_width = (heads_ + 2 * kv_heads_) * head_dim_;
        qkv_ = planner.keep(dtype, {tokens, qkv_width});
        o_ = planner.keep(dtype, {tokens, heads_ * head_dim_});
        lse_ = planner.keep(DType::kF32, {shape.batch, heads_, shape.time});
        Planner::Temporaries temporaries(planner);
        do_ = temporaries.take(dtype, o_.shape());
        dqkv_ = temporaries.take(dtype, qkv_.shape());
        plan_kernels(ctx, planner, inputs());
        plan_rotation(ctx, qkv_proj_, head_dim_);
        qkv_proj_.plan(ctx, planner, tokens, {.x = true});
        o_proj_.plan(ctx, planner, tokens, {.dy = true});
    }

    LinearInputs reads_rounded() const override {
        return {.x = qkv_proj_.reads_rounded().x, .dy = o_proj_.reads_rounded().dy};
    }

    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        RotaryColumns still{q_of(qkv_), k_of(qkv_), rope_table};
        if (qkv_proj_.forward_rotating(ctx, qkv_, xn, {rope_table, heads_ + kv_heads_, shape_.time}))
            still = {};
        causal_attention_forward(ctx, heads_of(o_, 0, heads_), lse_, inputs(), still);
        o_proj_.forward(ctx, out, o_, residual);
    }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        o_proj_.backward_weight(ctx, dout.numbers, o_, update);
        o_proj_.backward_input(ctx, do_, dout);
        causal_attention_backward(ctx, {q_of(dqkv_), k_of(dqkv_), {}, v_of(dqkv_), rope_table},
                                  heads_of(do_, 0, heads_), heads_of(o_, 0, heads_), lse_, inputs());
        qkv_proj_.backward_input(ctx, dxn, dqkv_);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor, Update update) override {
        qkv_proj_.backward_weight(ctx, dqkv_, xn, update);
    }

  private:
    /// `count` heads of x [N, width], from head `first` on, as [B, T, count, D]: a view, nothing moves.
    Tensor heads_of(Tensor x, int64_t first, int64_t count) const {
        return x.slice(1, first * head_dim_, count * head_dim_)
            .unflatten(0, shape_.batch, shape_.time)
            .unflatten(2, count, head_dim_);
    }
    Tensor q_of(Tensor qkv) const { return heads_of(qkv, 0, heads_); }
    Tensor k_of(Tensor qkv) const { return heads_of(qkv, heads_, kv_heads_); }
    Tensor v_of(Tensor qkv) const { return heads_of(qkv, heads_ + kv_heads_, kv_heads_); }
    AttentionInputs inputs() const {
        return {q_of(qkv_), k_of(qkv_), {}, v_of(qkv_), 1.0f / std::sqrt(static_cast<float>(head_dim_))};
    }

    Parameters& params_;
    int64_t heads_, kv_heads_, head_dim_;
    Linear qkv_proj_, o_proj_;
    BatchShape shape_{};
    Tensor qkv_;        ///< [N, (H + 2 Hkv) D]: queries and keys rotated, then values
    Tensor o_;          ///< [N, H D]
    Tensor lse_;        ///< f32 [B, H, T]
    Tensor do_, dqkv_;  ///< gradients of o_ and qkv_, within one backward()
};

}  // namespace

extern constinit const VariantInfo kMha = {
    .name = "mha",
    .keys = {{"model", "kv_heads"}},
    .fill = [](RawRecipe& recipe) { check_even(recipe, "model", "head_dim", recipe.config.model.head_dim); },
    .make = make_attention<MultiHeadAttention>,
    .core_widths =
        [](const Config& c) {
            return CoreWidths{c.model.head_dim, c.model.head_dim};
        },
    .rope_width = [](const Config& c) { return c.model.head_dim; },
    .cache_values = [](const Config& c) { return 2 * c.model.kv_heads * c.model.head_dim; },
    .qk_form = [](const Config& c) -> QkForm {
        const ModelConfig& m = c.model;
        return {{{m.heads, {{"q_proj.weight", m.head_dim, 0, m.head_dim}}},
                 {m.kv_heads, {{"k_proj.weight", m.head_dim, 0, m.head_dim}}}}};
    },
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer},
};

}  // namespace pastur
