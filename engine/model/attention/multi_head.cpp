#include "engine/model/attention/multi_head.h"

#include "engine/model/attention/head_norm.h"
#include "kernels/attention/attention_rotation.h"

namespace pastur {
namespace {

class MultiHeadAttention final : public Attention {
  public:
    MultiHeadAttention(const Config& config, Parameters& params, const std::string& prefix)
        : Attention(config, params),
          kv_heads_(config.model.kv_heads),
          head_dim_(config.model.head_dim),
          rotates_(variant_of(config).rope_width(config) > 0),
          q_norm_(config, params, prefix, {{"q_norm", head_dim_}}),
          k_norm_(config, params, prefix, {{"k_norm", head_dim_}}) {
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
        q_norm_.plan(ctx, planner, temporaries, shape.tokens(), heads_);
        k_norm_.plan(ctx, planner, temporaries, shape.tokens(), kv_heads_);
        in_proj_.plan(ctx, planner, shape.tokens(), {.x = true});
        plan_core(ctx, planner, temporaries, shape);
        if (rotates_ && !q_norm_.on()) plan_rotation(ctx);
    }

    /// Without a table neither the projection nor the core rotates. Norms precede the rotation.
    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        const RotaryColumns rotary = project(ctx, xn, rope_table);
        forward_core(ctx, out, residual, rotary);
    }

    void plan_decode(Context& ctx, Planner& planner, const LayerCache& cache) override {
        planner.need_scratch(decode_attention_scratch_bytes(ctx, decode_inputs({}, cache)));
    }

    void decode(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual, const DecodeStep& step,
                const LayerCache& cache) override {
        rotate(ctx, project(ctx, xn, step.rope_rows));
        append(ctx, step, cache);
        decode_attention(ctx, core_output(), decode_inputs(step, cache));
        project_output(ctx, out, residual);
    }

    std::vector<ConstTensor> cached() const override {
        return {merge_heads(k_norm_.value(k_of(qkv_))), merge_heads(v_of(qkv_))};
    }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        backward_core(ctx,
                      {by_time(q_norm_.value_gradient(q_of(dqkv_))),
                       by_time(k_norm_.value_gradient(k_of(dqkv_))),
                       {},
                       by_time(v_of(dqkv_)),
                       rope_table},
                      dout, update);
        q_norm_.backward(ctx, q_of(dqkv_), q_of(qkv_), update);
        k_norm_.backward(ctx, k_of(dqkv_), k_of(qkv_), update);
        in_proj_.backward_input(ctx, dxn, dqkv_);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor, Update update) override {
        in_proj_.backward_weight(ctx, dqkv_, xn, update);
    }

  private:
    /// Queries, keys and values, normalised. Returns what is left to rotate.
    RotaryColumns project(Context& ctx, const LinearInput& xn, ConstTensor rope_table) {
        const ConstTensor table = q_norm_.on() ? ConstTensor() : rope_table;
        const bool rotated =
            in_proj_.forward_rotating(ctx, qkv_, xn, {table, heads_ + kv_heads_, shape_.time});
        q_norm_.forward(ctx, q_of(qkv_));
        k_norm_.forward(ctx, k_of(qkv_));
        return rotated ? RotaryColumns{} : RotaryColumns{q(), k(), rope_table};
    }
    DecodeInputs decode_inputs(const DecodeStep& step, const LayerCache& cache) const {
        return decode_operands(step, q_norm_.value(q_of(qkv_)), cache.parts[0], cache.parts[1]);
    }
    /// `count` heads of x [N, (H + 2 Hkv) D], from head `first` on, as [N, count, D]: a view.
    Tensor slice_heads(Tensor x, int64_t first, int64_t count) const {
        return x.slice(1, first * head_dim_, count * head_dim_).unflatten(1, count, head_dim_);
    }
    Tensor q_of(Tensor qkv) const { return slice_heads(qkv, 0, heads_); }
    Tensor k_of(Tensor qkv) const { return slice_heads(qkv, heads_, kv_heads_); }
    Tensor v_of(Tensor qkv) const { return slice_heads(qkv, heads_ + kv_heads_, kv_heads_); }
    /// What the core reads, [B, T, heads, D].
    Tensor q() const { return by_time(q_norm_.value(q_of(qkv_))); }
    Tensor k() const { return by_time(k_norm_.value(k_of(qkv_))); }
    AttentionInputs core_inputs() const override { return {q(), k(), {}, by_time(v_of(qkv_)), scale_}; }

    int64_t kv_heads_, head_dim_;
    bool rotates_;
    HeadNorm q_norm_, k_norm_;
    Tensor qkv_;   ///< [N, (H + 2 Hkv) D]: queries and keys (rotated in `mha` without norms), then values
    Tensor dqkv_;  ///< within one backward()
};

}  // namespace

namespace multi_head {

std::unique_ptr<Attention> make(const Config& config, Parameters& params, const std::string& prefix) {
    return make_attention<MultiHeadAttention>(config, params, prefix);
}

CoreWidths core_widths(const Config& config) {
    return {config.model.head_dim, config.model.head_dim};
}

CacheLayout cache(const Config& config) {
    const ModelConfig& m = config.model;
    return {{{"keys", m.kv_heads, m.head_dim}, {"values", m.kv_heads, m.head_dim}}};
}

QkForm qk_form(const Config& config) {
    const ModelConfig& m = config.model;
    return {{{m.heads, {{"q_proj.weight", m.head_dim, 0, m.head_dim, head_norm(config, "q_norm")}}},
             {m.kv_heads, {{"k_proj.weight", m.head_dim, 0, m.head_dim, head_norm(config, "k_norm")}}}}};
}

}  // namespace multi_head
}  // namespace pastur
