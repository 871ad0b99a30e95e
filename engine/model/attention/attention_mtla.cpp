// Multi-head temporal latent attention (VARIANTS: `mtla`; Deng & Woodland, arXiv 2505.13544): latents as in
// mla-decoupled, of which `stride` adjacent ones are merged into one slot of the cache.
//
// Training keeps a slot per token: slot n holds the sum of its chunk's gated latents up to token n, and the
// rotary key of token n alone. In a decoder with one slot a chunk, each token adds its gated latent to the
// slot of its chunk and replaces the rotary key there, so the slot of a finished chunk has the rotary key of
// the last token. That is the slot that later queries see (AttentionInputs::stride), and both forms agree.
#include <algorithm>

#include "engine/model/attention/absorbed_core.h"
#include "engine/model/attention/attention.h"
#include "kernels/attention/attention_rotation.h"
#include "kernels/attention/temporal_merge.h"
#include "kernels/base/op_timer.h"
#include "kernels/embedding.h"
#include "kernels/layer_norm.h"

namespace pastur {
namespace {

/// The eps of the authors' latent norm, which does not follow model.norm_eps.
constexpr float kLatentNormEps = 1e-5f;

/// Width of the two codes whose product is the gate.
int64_t code_width(const Config& config) {
    return std::max<int64_t>(config.attention.kv_rank / 4, 1);
}

class TemporalLatentAttention final : public Attention {
  public:
    TemporalLatentAttention(const Config& config, Parameters& params, const std::string& prefix)
        : Attention(config, params),
          nope_dim_(config.attention.nope_dim),
          rope_dim_(config.attention.rope_dim),
          v_dim_(config.attention.v_dim),
          kv_rank_(config.attention.kv_rank),
          code_width_(code_width(config)),
          stride_(config.attention.stride) {
        ParamTable& table = params.table();
        in_proj_ = Linear(
            params, table.add_matrix_group({{prefix + "q_proj.weight", q_width()},
                                            {prefix + "kv_a_proj_with_mqa.weight", kv_rank_ + rope_dim_}},
                                           width_));
        norm_ = table.add_norm(prefix + "kv_a_layernorm.weight", kv_rank_);
        norm_bias_ = table.add_bias(prefix + "kv_a_layernorm.bias", kv_rank_);
        latent_code_proj_ =
            Linear(params, table.add_matrix(prefix + "merge_latent_proj.weight", code_width_, kv_rank_));
        latent_code_bias_ = table.add_bias(prefix + "merge_latent_proj.bias", code_width_);
        chunk_code_proj_ = Linear(
            params, table.add_position_matrix(prefix + "merge_chunk_proj.weight", code_width_, kv_rank_));
        chunk_code_bias_ = table.add_bias(prefix + "merge_chunk_proj.bias", code_width_);
        kv_b_proj_ = Linear(
            params, table.add_matrix(prefix + "kv_b_proj.weight", heads_ * (nope_dim_ + v_dim_), kv_rank_));
        add_o_proj(prefix);
    }

    void plan(Context& ctx, Planner& planner, const BatchShape& shape) override {
        const DType dtype = params_.compute_dtype();
        const int64_t tokens = shape.tokens(), chunks = (shape.time + stride_ - 1) / stride_;
        time_ = shape.time;
        Planner::Temporaries temporaries(planner);
        in_ = planner.keep(dtype, {tokens, q_width() + kv_rank_ + rope_dim_});
        latent_ = planner.keep(dtype, {tokens, kv_rank_});
        mean_ = planner.keep(DType::kF32, {tokens});
        rstd_ = planner.keep(DType::kF32, {tokens});
        latent_code_ = planner.keep(dtype, {tokens, code_width_});
        chunk_code_ = planner.keep(dtype, {chunks, code_width_});
        gate_ = planner.keep(DType::kF32, {tokens});
        merged_ = planner.keep(dtype, {tokens, kv_rank_});
        kv_ = planner.keep(dtype, {tokens, heads_ * (nope_dim_ + v_dim_)});
        din_ = temporaries.take(dtype, in_.shape());
        dkv_ = temporaries.take(dtype, kv_.shape());
        dlatent_ = temporaries.take(dtype, latent_.shape());
        dlatent_code_ = temporaries.take(dtype, latent_code_.shape());
        dchunk_code_ = temporaries.take(dtype, chunk_code_.shape());
        positions_ = temporaries.take(dtype, {chunks, kv_rank_});
        in_proj_.plan(ctx, planner, tokens, {.x = true});
        latent_code_proj_.plan(ctx, planner, tokens);
        chunk_code_proj_.plan(ctx, planner, chunks);
        kv_b_proj_.plan(ctx, planner, tokens);
        planner.need_scratch(layer_norm_backward_scratch_bytes(ctx, tokens, kv_rank_));
        planner.need_scratch(temporal_merge_backward_scratch_bytes(ctx, merge({}, {})));
        plan_core(ctx, planner, temporaries, shape);
    }

    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        project(ctx, xn);
        code_chunks(ctx, chunk_code_, positions_);
        temporal_merge_forward(ctx, merged_, gate_,
                               merge(params_.value(latent_code_bias_), params_.value(chunk_code_bias_)));
        kv_b_proj_.forward(ctx, kv_, merged_);
        forward_core(ctx, out, residual, {q_rope(), k_rope(), rope_table});
    }

    void plan_decode(Context& ctx, Planner& planner, const LayerCache& cache) override {
        const DType dtype = params_.compute_dtype();
        const int64_t sequences = cache.parts[0].size(0), slots = cache.parts[0].size(1);
        slot_code_ = planner.keep(dtype, {slots, code_width_});
        step_code_ = planner.keep(dtype, {sequences, code_width_});
        Planner::Temporaries temporaries(planner);
        slot_positions_ = temporaries.take(dtype, {slots, kv_rank_});
        absorbed_.plan(ctx, planner, decode_inputs({}, cache), heads_);
    }

    void prepare_decode(Context& ctx) override { code_chunks(ctx, slot_code_, slot_positions_); }

    /// Adds the gated latent to the slot of its chunk, and replaces the rotary key there.
    void decode(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual, const DecodeStep& step,
                const LayerCache& cache) override {
        project(ctx, xn);
        rotate(ctx, RotaryColumns{q_rope(), k_rope(), step.rope_rows});
        embedding_forward(ctx, step_code_, slot_code_, step.slots);
        // Every token as a chunk of its own, with the code of the chunk that it belongs to.
        TemporalMerge gated = merge(params_.value(latent_code_bias_), params_.value(chunk_code_bias_));
        gated.chunk_code = step_code_;
        gated.stride = 1;
        temporal_merge_forward(ctx, merged_, gate_, gated);
        append(ctx, step, cache);
        const ConstTensor up = kv_b_proj_.weight().unflatten(0, heads_, nope_dim_ + v_dim_);
        absorbed_.attend(ctx, core_output(), decode_inputs(step, cache), up.slice(1, 0, nope_dim_),
                         up.slice(1, nope_dim_, v_dim_));
        project_output(ctx, out, residual);
    }

    std::vector<ConstTensor> cached() const override { return {merged_, k_rope_of(in_)}; }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        backward_core(ctx,
                      {q_heads(q_of(din_)), k_of(dkv_), by_time(k_rope_of(din_)), v_of(dkv_), rope_table},
                      dout, update);

        kv_b_proj_.backward_weight(ctx, dkv_, merged_, update);
        kv_b_proj_.backward_input(ctx, dlatent_, dkv_);
        // In place: the gradient of the merged latents becomes that of the latents, without the gate's share.
        temporal_merge_backward(ctx,
                                {dlatent_, dlatent_code_, dchunk_code_, params_.grad(latent_code_bias_),
                                 params_.grad(chunk_code_bias_), update},
                                dlatent_, gate_,
                                merge(params_.value(latent_code_bias_), params_.value(chunk_code_bias_)));
        {
            const OpScope scope(ctx, OpFamily::kTemporalMerge, 0, 0);
            chunk_positions(ctx, positions_);
            chunk_code_proj_.backward_weight(ctx, dchunk_code_, positions_, update);
        }
        latent_code_proj_.backward_weight(ctx, dlatent_code_, latent_, update);
        latent_code_proj_.backward_input(ctx, dlatent_, dlatent_code_, Update::kAccumulate);
        layer_norm_backward(ctx, {.dx = c_of(din_),
                                  .dweight = params_.grad(norm_),
                                  .dbias = params_.grad(norm_bias_),
                                  .update = update,
                                  .dy = dlatent_,
                                  .x = c_of(in_),
                                  .mean = mean_,
                                  .rstd = rstd_,
                                  .weight = params_.value(norm_)});
        in_proj_.backward_input(ctx, dxn, din_);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor, Update update) override {
        in_proj_.backward_weight(ctx, din_, xn, update);
    }

  private:
    int64_t q_width() const { return heads_ * (nope_dim_ + rope_dim_); }

    /// Queries, rotary key, normalised latent and its code.
    void project(Context& ctx, const LinearInput& xn) {
        in_proj_.forward(ctx, in_, xn);
        layer_norm_forward(ctx, latent_, mean_, rstd_, c_of(in_), params_.value(norm_),
                           params_.value(norm_bias_), kLatentNormEps);
        latent_code_proj_.forward(ctx, latent_code_, latent_);
    }
    /// code [chunks, code width] of chunks 0, 1, ...; positions [chunks, kv_rank]: memory.
    void code_chunks(Context& ctx, Tensor code, Tensor positions) {
        const OpScope scope(ctx, OpFamily::kTemporalMerge, 0, 0);
        chunk_positions(ctx, positions);
        chunk_code_proj_.forward(ctx, code, positions);
    }
    DecodeInputs decode_inputs(const DecodeStep& step, const LayerCache& cache) const {
        const Tensor q = q_of(in_).unflatten(1, heads_, nope_dim_ + rope_dim_), latents = cache.parts[0];
        return decode_operands(step, q, latents, latents, cache.parts[1]);
    }

    /// Columns of the input projection: queries, key-value latent, shared rotary key.
    Tensor q_of(Tensor in) const { return in.slice(1, 0, q_width()); }
    Tensor c_of(Tensor in) const { return in.slice(1, q_width(), kv_rank_); }
    Tensor k_rope_of(Tensor in) const { return in.slice(1, q_width() + kv_rank_, rope_dim_); }

    Tensor q_heads(Tensor q) const { return heads_of(q, heads_, nope_dim_ + rope_dim_); }
    Tensor kv_heads(Tensor kv) const { return heads_of(kv, heads_, nope_dim_ + v_dim_); }
    Tensor k_of(Tensor kv) const { return kv_heads(kv).slice(3, 0, nope_dim_); }
    Tensor v_of(Tensor kv) const { return kv_heads(kv).slice(3, nope_dim_, v_dim_); }

    /// The columns that are rotated, as heads: of the queries, and the shared key as one head.
    Tensor q_rope() const { return q_heads(q_of(in_)).slice(3, nope_dim_, rope_dim_); }
    Tensor k_rope() const { return by_time(k_rope_of(in_)).unflatten(2, 1, rope_dim_); }

    TemporalMerge merge(ConstTensor latent_bias, ConstTensor chunk_bias) const {
        return {latent_,    latent_code_, chunk_code_, latent_bias,
                chunk_bias, time_,        stride_,     documents().first_key};
    }

    AttentionInputs core_inputs() const override {
        AttentionInputs in{q_heads(q_of(in_)), k_of(kv_), by_time(k_rope_of(in_)), v_of(kv_), scale_};
        in.stride = stride_;
        return in;
    }

    std::vector<NamedLatent> latents() const override { return {{"c_kv", merged_}}; }

    int64_t nope_dim_, rope_dim_, v_dim_, kv_rank_, code_width_, stride_, time_ = 0;
    GroupId norm_{}, norm_bias_{}, latent_code_bias_{}, chunk_code_bias_{};
    Linear latent_code_proj_, chunk_code_proj_, kv_b_proj_;
    Tensor in_;           ///< [N, q width | kv_rank | d_R]; the rotary columns are rotated in place
    Tensor latent_;       ///< [N, kv_rank], normalised
    Tensor mean_, rstd_;  ///< f32 [N], of the latent norm
    Tensor latent_code_;  ///< [N, code width]
    Tensor chunk_code_;   ///< [chunks, code width]
    Tensor gate_;         ///< f32 [N]
    Tensor merged_;       ///< [N, kv_rank]
    Tensor kv_;           ///< [N, H (d_n + d_v)]: per head keys, then values
    Tensor positions_;    ///< [chunks, kv_rank], within one forward() or backward()
    Tensor din_, dkv_, dlatent_, dlatent_code_, dchunk_code_;  ///< within one backward()
    AbsorbedCore absorbed_;
    Tensor slot_code_, step_code_;  ///< [slots, code width], of every chunk; [B, code width], of the tokens
    Tensor slot_positions_;         ///< [slots, kv_rank], within prepare_decode()
};

void fill_sizes(RawRecipe& recipe) {
    AttentionConfig& a = recipe.config.attention;
    const ModelConfig& m = recipe.config.model;
    const int64_t seq_len = recipe.config.data.seq_len;
    fill(a.kv_rank, m.d_model / 2);
    fill(a.nope_dim, m.head_dim / 2);
    fill(a.rope_dim, m.head_dim / 2);
    fill(a.v_dim, m.head_dim);
    fill(a.stride, std::min<int64_t>(2, seq_len));
    if (a.nope_dim < 1)
        fail(ExitCode::kUsage, "attention: {}: expected 1 or more", recipe.describe("attention", "nope_dim"));
    check_even(recipe, "attention", "rope_dim", a.rope_dim);
    check_rank(recipe, "kv_rank", a.kv_rank, m.d_model, recipe.describe("model", "d_model"));
    if (a.stride > seq_len)
        fail(ExitCode::kUsage, "attention: {}: expected 1 to {}, the tokens of a sequence ({})",
             recipe.describe("attention", "stride"), seq_len, recipe.describe("data", "seq_len"));
}

/// The form of mla-decoupled, with the gain of the latent norm. Two things that depend on the token are left
/// out: the gate, which scales a token's content key by a number between 0 and 1, and the sum over the chunk,
/// which adds content keys of other tokens. So is the norm's centring, which takes one of kv_rank directions
/// away. At initialisation the form is the same product of Gaussian matrices, and has the same law.
QkForm qk_form(const Config& config) {
    const AttentionConfig& a = config.attention;
    const int64_t heads = config.model.heads, width = a.nope_dim + a.rope_dim;
    const auto query = [&](int64_t first, int64_t rows) -> QkSide {
        return {heads, {{"q_proj.weight", rows, first, width}}};
    };
    const QkRows content_rows = {"kv_b_proj.weight", a.nope_dim, 0, a.nope_dim + a.v_dim};
    const char* gain = "kv_a_layernorm.weight";
    const char* down = "kv_a_proj_with_mqa.weight";
    return {
        .whole = {query(0, width),
                  {heads, {content_rows, {"", a.rope_dim}}, gain, {{down, 0, a.kv_rank + a.rope_dim}}}},
        .content = QkPart{query(0, a.nope_dim), {heads, {content_rows}, gain, {{down, 0, a.kv_rank}}}},
        .rope = QkPart{query(a.nope_dim, a.rope_dim), {1, {{down, a.rope_dim, a.kv_rank}}}},
    };
}

}  // namespace

extern constinit const VariantInfo kMtla = {
    .name = "mtla",
    .keys = {{"attention", "kv_rank"},
             {"attention", "nope_dim"},
             {"attention", "rope_dim"},
             {"attention", "v_dim"},
             {"attention", "stride"}},
    .fill = fill_sizes,
    .make = make_attention<TemporalLatentAttention>,
    .core_widths =
        [](const Config& c) {
            const AttentionConfig& a = c.attention;
            return CoreWidths{a.nope_dim + a.rope_dim, a.v_dim, a.rope_dim};
        },
    .rope_width = [](const Config& c) { return c.attention.rope_dim; },
    .cache =
        [](const Config& c) {
            const AttentionConfig& a = c.attention;
            return CacheLayout{{{"latent", 1, a.kv_rank, true}, {"rotary key", 1, a.rope_dim}}, a.stride};
        },
    .qk_form = qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope},
};

}  // namespace pastur
