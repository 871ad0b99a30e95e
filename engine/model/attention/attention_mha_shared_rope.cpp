// Multi-head attention whose heads share one rotary key (VARIANTS: `mha-shared-rope`): as in mla-decoupled,
// but keys and values are not compressed.
#include "engine/model/attention/head_norm.h"
#include "kernels/attention/attention_rotation.h"

namespace pastur {
namespace {

class SharedRopeAttention final : public Attention {
  public:
    SharedRopeAttention(const Config& config, Parameters& params, const std::string& prefix)
        : Attention(config, params),
          nope_dim_(config.attention.nope_dim),
          rope_dim_(config.attention.rope_dim),
          v_dim_(config.attention.v_dim),
          q_norm_(config, params, prefix, {{"q_norm", nope_dim_}, {"q_rope_norm", rope_dim_}}),
          k_norm_(config, params, prefix, {{"k_norm", nope_dim_}}),
          k_rope_norm_(config, params, prefix, {{"k_rope_norm", rope_dim_}}) {
        in_proj_ =
            Linear(params, params.table().add_matrix_group({{prefix + "q_proj.weight", q_width()},
                                                            {prefix + "k_proj.weight", heads_ * nope_dim_},
                                                            {prefix + "k_rope_proj.weight", rope_dim_},
                                                            {prefix + "v_proj.weight", heads_ * v_dim_}},
                                                           width_));
        add_o_proj(prefix);
    }

    void plan(Context& ctx, Planner& planner, const BatchShape& shape) override {
        Planner::Temporaries temporaries(planner);
        in_ = planner.keep(params_.compute_dtype(), {shape.tokens(), v_begin() + heads_ * v_dim_});
        din_ = temporaries.take(in_.dtype(), in_.shape());
        q_norm_.plan(ctx, planner, temporaries, shape.tokens(), heads_);
        k_norm_.plan(ctx, planner, temporaries, shape.tokens(), heads_);
        k_rope_norm_.plan(ctx, planner, temporaries, shape.tokens(), 1);
        in_proj_.plan(ctx, planner, shape.tokens(), {.x = true});
        plan_core(ctx, planner, temporaries, shape);
    }

    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        project(ctx, xn);
        forward_core(ctx, out, residual, rotary(rope_table));
    }

    void plan_decode(Context& ctx, Planner& planner, const LayerCache& cache) override {
        planner.need_scratch(decode_attention_scratch_bytes(ctx, decode_inputs({}, cache)));
    }

    void decode(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual, const DecodeStep& step,
                const LayerCache& cache) override {
        project(ctx, xn);
        rotate(ctx, rotary(step.rope_rows));
        append(ctx, step, cache);
        decode_attention(ctx, core_output(), decode_inputs(step, cache));
        project_output(ctx, out, residual);
    }

    std::vector<ConstTensor> cached() const override {
        return {merge_heads(k_norm_.value(k_of(in_))), merge_heads(k_rope_norm_.value(k_rope_of(in_))),
                merge_heads(v_of(in_))};
    }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        backward_core(
            ctx,
            {by_time(q_norm_.value_gradient(q_of(din_))), by_time(k_norm_.value_gradient(k_of(din_))),
             by_time(merge_heads(k_rope_norm_.value_gradient(k_rope_of(din_)))), by_time(v_of(din_)),
             rope_table},
            dout, update);
        q_norm_.backward(ctx, q_of(din_), q_of(in_), update);
        k_norm_.backward(ctx, k_of(din_), k_of(in_), update);
        k_rope_norm_.backward(ctx, k_rope_of(din_), k_rope_of(in_), update);
        in_proj_.backward_input(ctx, dxn, din_);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor, Update update) override {
        in_proj_.backward_weight(ctx, din_, xn, update);
    }

  private:
    int64_t q_width() const { return heads_ * (nope_dim_ + rope_dim_); }
    int64_t k_rope_begin() const { return q_width() + heads_ * nope_dim_; }
    int64_t v_begin() const { return k_rope_begin() + rope_dim_; }

    /// Queries, keys and values, normalised.
    void project(Context& ctx, const LinearInput& xn) {
        in_proj_.forward(ctx, in_, xn);
        q_norm_.forward(ctx, q_of(in_));
        k_norm_.forward(ctx, k_of(in_));
        k_rope_norm_.forward(ctx, k_rope_of(in_));
    }
    RotaryColumns rotary(ConstTensor rope_table) const {
        return {by_time(q_norm_.value(q_of(in_))).slice(3, nope_dim_, rope_dim_),
                by_time(k_rope_norm_.value(k_rope_of(in_))), rope_table};
    }
    DecodeInputs decode_inputs(const DecodeStep& step, const LayerCache& cache) const {
        return decode_operands(step, q_norm_.value(q_of(in_)), cache.parts[0], cache.parts[2],
                               cache.parts[1]);
    }

    /// Columns of the input projection as [N, heads, width]: queries, content keys, rotary key, values.
    Tensor q_of(Tensor in) const {
        return in.slice(1, 0, q_width()).unflatten(1, heads_, nope_dim_ + rope_dim_);
    }
    Tensor k_of(Tensor in) const {
        return in.slice(1, q_width(), heads_ * nope_dim_).unflatten(1, heads_, nope_dim_);
    }
    Tensor k_rope_of(Tensor in) const {
        return in.slice(1, k_rope_begin(), rope_dim_).unflatten(1, 1, rope_dim_);
    }
    Tensor v_of(Tensor in) const {
        return in.slice(1, v_begin(), heads_ * v_dim_).unflatten(1, heads_, v_dim_);
    }

    AttentionInputs core_inputs() const override {
        return {by_time(q_norm_.value(q_of(in_))), by_time(k_norm_.value(k_of(in_))),
                by_time(merge_heads(k_rope_norm_.value(k_rope_of(in_)))), by_time(v_of(in_)), scale_};
    }

    int64_t nope_dim_, rope_dim_, v_dim_;
    HeadNorm q_norm_, k_norm_, k_rope_norm_;
    Tensor in_;   ///< [N, H (d_n + d_R) | H d_n | d_R | H d_v]; the rotary columns are rotated in place
    Tensor din_;  ///< within one backward()
};

QkForm qk_form(const Config& config) {
    const AttentionConfig& a = config.attention;
    const int64_t heads = config.model.heads, width = a.nope_dim + a.rope_dim;
    const QkRows q_content = {"q_proj.weight", a.nope_dim, 0, width, head_norm(config, "q_norm")};
    const QkRows q_rope = {"q_proj.weight", a.rope_dim, a.nope_dim, width, head_norm(config, "q_rope_norm")};
    const QkRows content = {"k_proj.weight", a.nope_dim, 0, a.nope_dim, head_norm(config, "k_norm")};
    // Stride 0: the rows serve every head.
    const QkRows rope = {"k_rope_proj.weight", a.rope_dim, 0, 0, head_norm(config, "k_rope_norm")};
    return {
        .whole = {{heads, {q_content, q_rope}}, {heads, {content, rope}}},
        .content = QkPart{{heads, {q_content}}, {heads, {content}}},
        .rope = QkPart{{heads, {q_rope}}, {1, {rope}}},
    };
}

}  // namespace

extern constinit const VariantInfo kMhaSharedRope = {
    .name = "mha-shared-rope",
    .keys = {{"attention", "nope_dim"},
             {"attention", "rope_dim"},
             {"attention", "v_dim"},
             {"attention", "qk_norm"}},
    .fill = fill_split_heads,
    .make = make_attention<SharedRopeAttention>,
    .core_widths = split_core_widths,
    .rope_width = [](const Config& c) { return c.attention.rope_dim; },
    .cache =
        [](const Config& c) {
            const AttentionConfig& a = c.attention;
            return CacheLayout{{{"keys", c.model.heads, a.nope_dim},
                                {"rotary key", 1, a.rope_dim},
                                {"values", c.model.heads, a.v_dim}}};
        },
    .qk_form = qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope},
};

}  // namespace pastur
