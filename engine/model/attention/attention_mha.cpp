// Multi-head attention as in Llama; kv_heads < heads gives grouped queries (VARIANTS: `mha`).
#include "engine/model/attention/attention.h"

namespace pastur {
namespace {

class MultiHeadAttention final : public Attention {
  public:
    MultiHeadAttention(const Config& config, Parameters& params, const std::string& prefix)
        : Attention(config, params), kv_heads_(config.model.kv_heads), head_dim_(config.model.head_dim) {
        in_proj_ = Linear(params,
                          params.table().add_matrix_group({{prefix + "q_proj.weight", heads_ * head_dim_},
                                                           {prefix + "k_proj.weight", kv_heads_ * head_dim_},
                                                           {prefix + "v_proj.weight", kv_heads_ * head_dim_}},
                                                          width_));
        add_o_proj(prefix);
    }

    void plan(Context& ctx, Planner& planner, const BatchShape& shape) override {
        Planner::Temporaries temporaries(planner);
        qkv_ = planner.keep(params_.compute_dtype(), {shape.tokens(), (heads_ + 2 * kv_heads_) * head_dim_});
        dqkv_ = temporaries.take(qkv_.dtype(), qkv_.shape());
        in_proj_.plan(ctx, planner, shape.tokens(), {.x = true});
        plan_core(ctx, planner, temporaries, shape);
        plan_rotation(ctx);
    }

    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        const bool rotated =
            in_proj_.forward_rotating(ctx, qkv_, xn, {rope_table, heads_ + kv_heads_, shape_.time});
        forward_core(ctx, out, residual,
                     rotated ? RotaryColumns{} : RotaryColumns{q_of(qkv_), k_of(qkv_), rope_table});
    }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        backward_core(ctx, {q_of(dqkv_), k_of(dqkv_), {}, v_of(dqkv_), rope_table}, dout, update);
        in_proj_.backward_input(ctx, dxn, dqkv_);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor, Update update) override {
        in_proj_.backward_weight(ctx, dqkv_, xn, update);
    }

  private:
    /// `count` heads of x [N, (H + 2 Hkv) D], from head `first` on, as [B, T, count, D]: a view.
    Tensor slice_heads(Tensor x, int64_t first, int64_t count) const {
        return heads_of(x.slice(1, first * head_dim_, count * head_dim_), count, head_dim_);
    }
    Tensor q_of(Tensor qkv) const { return slice_heads(qkv, 0, heads_); }
    Tensor k_of(Tensor qkv) const { return slice_heads(qkv, heads_, kv_heads_); }
    Tensor v_of(Tensor qkv) const { return slice_heads(qkv, heads_ + kv_heads_, kv_heads_); }
    AttentionInputs inputs() const override { return {q_of(qkv_), k_of(qkv_), {}, v_of(qkv_), scale_}; }

    int64_t kv_heads_, head_dim_;
    Tensor qkv_;   ///< [N, (H + 2 Hkv) D]: queries and keys rotated, then values
    Tensor dqkv_;  ///< within one backward()
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
