#include "engine/model/attention/latent_attention.h"

#include "engine/model/attention/absorbed_core.h"
#include "engine/model/attention/head_norm.h"
#include "engine/model/attention/latent.h"
#include "kernels/attention/attention_rotation.h"

namespace pastur {
namespace {

/// The eps of the published models' latent norms, which does not follow model.norm_eps.
constexpr double kLatentNormEps = 1e-6;

/// The name of a latent's norm; empty where latents are not normalised.
std::string norm_name(const Config& config, const std::string& name) {
    return config.attention.latent_norm ? name : "";
}

class LatentAttention final : public Attention {
  public:
    LatentAttention(const Config& config, Parameters& params, const std::string& prefix)
        : Attention(config, params),
          nope_dim_(core_.qk - core_.shared),
          rope_dim_(core_.shared),
          v_dim_(core_.v),
          kv_rank_(config.attention.kv_rank),
          q_rank_(config.attention.q_rank),
          rotates_(variant_of(config).rope_width(config) > 0),
          q_latent_(params, q_rank_ > 0 ? norm_name(config, prefix + "q_a_layernorm.weight") : "", q_rank_,
                    kLatentNormEps, latent_gain(config, std::max<int64_t>(q_rank_, 1))),
          kv_latent_(params, norm_name(config, prefix + "kv_a_layernorm.weight"), kv_rank_, kLatentNormEps,
                     latent_gain(config, kv_rank_)),
          q_norm_(config, params, prefix,
                  rope_dim_ > 0 ? Parts{{"q_norm", nope_dim_}, {"q_rope_norm", rope_dim_}}
                                : Parts{{"q_norm", nope_dim_}}),
          k_norm_(config, params, prefix, {{"k_norm", nope_dim_}}),
          k_rope_norm_(config, params, prefix, rope_dim_ > 0 ? Parts{{"k_rope_norm", rope_dim_}} : Parts{}) {
        ParamTable& table = params.table();
        in_proj_ = Linear(params, table.add_matrix_group(
                                      {q_rank_ > 0 ? ParamTable::Rows{prefix + "q_a_proj.weight", q_rank_}
                                                   : ParamTable::Rows{prefix + "q_proj.weight", q_width()},
                                       {prefix + "kv_a_proj_with_mqa.weight", kv_rank_ + rope_dim_}},
                                      width_));
        if (q_rank_ > 0)
            q_b_proj_ = Linear(params, table.add_matrix(prefix + "q_b_proj.weight", q_width(), q_rank_));
        kv_b_proj_ = Linear(
            params, table.add_matrix(prefix + "kv_b_proj.weight", heads_ * (nope_dim_ + v_dim_), kv_rank_));
        add_o_proj(prefix);
    }

    void plan(Context& ctx, Planner& planner, const BatchShape& shape) override {
        const DType dtype = params_.compute_dtype();
        const int64_t tokens = shape.tokens();
        Planner::Temporaries temporaries(planner);
        in_ = planner.keep(dtype, {tokens, q_in_width() + kv_rank_ + rope_dim_});
        din_ = temporaries.take(dtype, in_.shape());
        if (q_rank_ > 0) {
            q_latent_.plan(ctx, planner, temporaries, tokens);
            q_up_ = planner.keep(dtype, {tokens, q_width()});
            dq_up_ = temporaries.take(dtype, q_up_.shape());
        }
        kv_latent_.plan(ctx, planner, temporaries, tokens);
        kv_ = planner.keep(dtype, {tokens, heads_ * (nope_dim_ + v_dim_)});
        dkv_ = temporaries.take(dtype, kv_.shape());
        q_norm_.plan(ctx, planner, temporaries, tokens, heads_);
        k_norm_.plan(ctx, planner, temporaries, tokens, heads_);
        k_rope_norm_.plan(ctx, planner, temporaries, tokens, 1);
        in_proj_.plan(ctx, planner, tokens, {.x = true});
        kv_b_proj_.plan(ctx, planner, tokens);
        if (q_rank_ > 0) q_b_proj_.plan(ctx, planner, tokens);
        plan_core(ctx, planner, temporaries, shape);
    }

    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        kv_b_proj_.forward(ctx, kv_, project(ctx, xn));
        k_norm_.forward(ctx, k_of(kv_));
        forward_core(ctx, out, residual, rotary(rope_table));
    }

    void plan_decode(Context& ctx, Planner& planner, const LayerCache& cache) override {
        if (absorbs()) return absorbed_.plan(ctx, planner, decode_inputs({}, cache), heads_);
        const DType dtype = params_.compute_dtype();
        const int64_t slots = cache.parts[0].size(1);
        Planner::Temporaries temporaries(planner);
        unpacked_ = temporaries.take(dtype, {slots, heads_ * (nope_dim_ + v_dim_)});
        unpacked_k_ = temporaries.take(dtype, {slots, heads_, nope_dim_});
        unpacked_rstd_ = temporaries.take(DType::kF32, {slots, heads_});
        planner.need_scratch(decode_attention_scratch_bytes(ctx, unpacked_inputs({}, cache, 0, slots)));
    }

    bool decompresses() const override { return !absorbs(); }

    void decode(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual, const DecodeStep& step,
                const LayerCache& cache) override {
        project(ctx, xn);
        RotaryColumns rotated = rotary(step.rope_rows);
        if (rope_dim_ == 0) rotated.k = {};  // the cache holds latents
        rotate(ctx, rotated);
        append(ctx, step, cache);
        if (absorbs()) {
            const ConstTensor up = kv_b_proj_.weight().unflatten(0, heads_, nope_dim_ + v_dim_);
            absorbed_.attend(ctx, core_output(), decode_inputs(step, cache), up.slice(1, 0, nope_dim_),
                             up.slice(1, nope_dim_, v_dim_));
        } else {
            for (int64_t b = 0; b < core_output().size(0); ++b) decode_unpacked(ctx, step, cache, b);
        }
        project_output(ctx, out, residual);
    }

    std::vector<ConstTensor> cached() const override {
        std::vector<ConstTensor> parts = {kv_latent_.value(c_of(in_))};
        if (rope_dim_ > 0) parts.push_back(merge_heads(k_rope_norm_.value(k_rope_of(in_))));
        return parts;
    }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        const Tensor dq = q_rank_ > 0 ? dq_up_ : q_in(din_);
        backward_core(
            ctx,
            {by_time(q_norm_.value_gradient(q_of(dq))), by_time(k_norm_.value_gradient(k_of(dkv_))),
             rope_dim_ > 0 ? by_time(merge_heads(k_rope_norm_.value_gradient(k_rope_of(din_)))) : Tensor(),
             by_time(v_of(dkv_)), rope_table},
            dout, update);
        q_norm_.backward(ctx, q_of(dq), q_of(q()), update);
        k_norm_.backward(ctx, k_of(dkv_), k_of(kv_), update);
        if (rope_dim_ > 0) k_rope_norm_.backward(ctx, k_rope_of(din_), k_rope_of(in_), update);

        kv_b_proj_.backward_weight(ctx, dkv_, kv_latent_.value(c_of(in_)), update);
        kv_b_proj_.backward_input(ctx, kv_latent_.value_gradient(c_of(din_)), dkv_);
        kv_latent_.backward(ctx, c_of(din_), c_of(in_), update);
        if (q_rank_ > 0) {
            q_b_proj_.backward_weight(ctx, dq, q_latent_.value(q_in(in_)), update);
            q_b_proj_.backward_input(ctx, q_latent_.value_gradient(q_in(din_)), dq);
            q_latent_.backward(ctx, q_in(din_), q_in(in_), update);
        }
        in_proj_.backward_input(ctx, dxn, din_);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor, Update update) override {
        in_proj_.backward_weight(ctx, din_, xn, update);
    }

  private:
    int64_t q_width() const { return heads_ * (nope_dim_ + rope_dim_); }
    int64_t q_in_width() const { return q_rank_ > 0 ? q_rank_ : q_width(); }

    /// Everything but the decompression of the latent, which it returns.
    ConstTensor project(Context& ctx, const LinearInput& xn) {
        in_proj_.forward(ctx, in_, xn);
        if (q_rank_ > 0) q_b_proj_.forward(ctx, q_up_, q_latent_.forward(ctx, q_in(in_)));
        q_norm_.forward(ctx, q_of(q()));
        if (rope_dim_ > 0) k_rope_norm_.forward(ctx, k_rope_of(in_));
        return kv_latent_.forward(ctx, c_of(in_));
    }

    /// Whether decoding maps queries to the latent. Keys that are normalised or rotated after their decompression are
    /// not a linear map of it, so each step decompresses all latents.
    bool absorbs() const { return !k_norm_.on() && (!rotates_ || rope_dim_ > 0); }
    /// Content queries, and the latents as keys and values.
    DecodeInputs decode_inputs(const DecodeStep& step, const LayerCache& cache) const {
        const Tensor q = q_norm_.value(q_of(this->q())), latents = cache.parts[0];
        return decode_operands(step, q, latents, latents, rope_dim_ > 0 ? cache.parts[1] : Tensor());
    }
    /// The query of sequence b, and `count` keys and values as decode_unpacked() decompresses them.
    DecodeInputs unpacked_inputs(const DecodeStep& step, const LayerCache& cache, int64_t b,
                                 int64_t count) const {
        DecodeInputs in = decode_inputs(step, cache);
        in.q = in.q.slice(0, b, 1);
        if (!in.q_shared.empty()) {
            in.q_shared = in.q_shared.slice(0, b, 1);
            in.k_shared = in.k_shared.slice(0, b, 1).slice(1, 0, count);
        }
        const Tensor kv = unpacked_.slice(0, 0, count);
        in.k = (k_norm_.on() ? unpacked_k_.slice(0, 0, count) : k_of(kv)).unflatten(0, 1, count);
        in.v = v_of(kv).unflatten(0, 1, count);
        if (!in.lengths.empty()) in.lengths = in.lengths.slice(0, b, 1);
        in.longest = count;
        return in;
    }
    /// Also decompresses slots that hold no token yet, which attention does not read: bounds rarely change, and a CUDA
    /// device searches an algorithm for each shape of a GEMM.
    void decode_unpacked(Context& ctx, const DecodeStep& step, const LayerCache& cache, int64_t b) {
        const int64_t bound = step.bounds[static_cast<size_t>(b)], slots = cache.parts[0].size(1);
        const Tensor latents = cache.parts[0].slice(0, b, 1).reshape({slots, kv_rank_});
        const Tensor kv = unpacked_.slice(0, 0, bound);
        kv_b_proj_.forward(ctx, kv, latents.slice(0, 0, bound));
        Tensor k = k_of(kv);
        if (k_norm_.on()) {
            k = unpacked_k_.slice(0, 0, bound);
            k_norm_.normalise(ctx, k, unpacked_rstd_.slice(0, 0, bound), k_of(kv));
        }
        k = k.unflatten(0, 1, bound);
        if (rotates_ && rope_dim_ == 0) rope(ctx, k, k, step.rope_table, Rotation::kForward);
        decode_attention(ctx, core_output().slice(0, b, 1), unpacked_inputs(step, cache, b, bound));
    }

    /// Columns of the input projection: queries (or their latent), key-value latent, shared rotary key.
    Tensor q_in(Tensor in) const { return in.slice(1, 0, q_in_width()); }
    Tensor c_of(Tensor in) const { return in.slice(1, q_in_width(), kv_rank_); }
    Tensor k_rope_of(Tensor in) const {
        return in.slice(1, q_in_width() + kv_rank_, rope_dim_).unflatten(1, 1, rope_dim_);
    }

    /// Heads as [N, H, width].
    Tensor q_of(Tensor q) const { return q.unflatten(1, heads_, nope_dim_ + rope_dim_); }
    Tensor kv_heads(Tensor kv) const { return kv.unflatten(1, heads_, nope_dim_ + v_dim_); }
    Tensor k_of(Tensor kv) const { return kv_heads(kv).slice(2, 0, nope_dim_); }
    Tensor v_of(Tensor kv) const { return kv_heads(kv).slice(2, nope_dim_, v_dim_); }
    Tensor q() const { return q_rank_ > 0 ? q_up_ : q_in(in_); }

    /// The columns that are rotated: of the queries and the shared key, as one head; without a shared key all
    /// of queries and keys.
    RotaryColumns rotary(ConstTensor rope_table) const {
        if (rope_dim_ == 0) return {core_q(), core_k(), rope_table};
        return {core_q().slice(3, nope_dim_, rope_dim_), core_k_shared().unflatten(2, 1, rope_dim_),
                rope_table};
    }

    AttentionInputs core_inputs() const override {
        return {core_q(), core_k(), core_k_shared(), by_time(v_of(kv_)), scale_};
    }
    Tensor core_q() const { return by_time(q_norm_.value(q_of(q()))); }
    Tensor core_k() const { return by_time(k_norm_.value(k_of(kv_))); }
    Tensor core_k_shared() const {
        return rope_dim_ > 0 ? by_time(merge_heads(k_rope_norm_.value(k_rope_of(in_)))) : Tensor();
    }

    std::vector<NamedLatent> latents() const override { return {{"c_kv", kv_latent_.value(c_of(in_))}}; }

    int64_t nope_dim_, rope_dim_, v_dim_, kv_rank_, q_rank_;
    bool rotates_;
    Latent q_latent_, kv_latent_;
    using Parts = std::vector<HeadNorm::Part>;
    HeadNorm q_norm_, k_norm_, k_rope_norm_;
    Linear q_b_proj_, kv_b_proj_;
    AbsorbedCore absorbed_;
    Tensor in_;    ///< [N, q width or q_rank | kv_rank | d_R]; rotary columns are rotated in place
    Tensor q_up_;  ///< [N, H (d_n + d_R)] with q_rank: decompressed queries
    Tensor kv_;    ///< [N, H (d_n + d_v)]: per head keys (rotated in `mla-rope`), then values
    Tensor din_, dq_up_, dkv_;  ///< within one backward()
    /// Within one decode() that decompresses, for one sequence at a time: as kv_; its keys, normalised; f32.
    Tensor unpacked_, unpacked_k_, unpacked_rstd_;
};

}  // namespace

namespace latent_attention {

std::unique_ptr<Attention> make(const Config& config, Parameters& params, const std::string& prefix) {
    return make_attention<LatentAttention>(config, params, prefix);
}

void fill_sizes(RawRecipe& recipe) {
    AttentionConfig& a = recipe.config.attention;
    const ModelConfig& m = recipe.config.model;
    if (!recipe.is_given(recipe.field("attention", "latent_norm"))) a.latent_norm = true;
    if (!a.latent_norm && a.latent_gain != LatentGain::kNone)
        fail(ExitCode::kUsage, "attention: {} is a factor of normalised latents: expected latent_norm = true",
             recipe.describe("attention", "latent_gain"));
    fill(a.kv_rank, m.d_model / 2);
    fill(a.v_dim, m.head_dim);
    check_rank(recipe, "kv_rank", a.kv_rank, m.d_model, recipe.describe("model", "d_model"));
    if (a.q_rank != 0) check_rank(recipe, "q_rank", a.q_rank, m.d_model, recipe.describe("model", "d_model"));
}

CoreWidths core_widths(const Config& config) {
    return {config.model.head_dim, config.attention.v_dim};
}

CacheLayout cache(const Config& config) {
    CacheLayout layout{{{"latent", 1, config.attention.kv_rank}}};
    const int64_t shared = variant_of(config).core_widths(config).shared;
    if (shared > 0) layout.parts.push_back({"rotary key", 1, shared});
    return layout;
}

QkForm qk_form(const Config& config) {
    const AttentionConfig& a = config.attention;
    const CoreWidths core = variant_of(config).core_widths(config);
    const int64_t heads = config.model.heads, nope_dim = core.qk - core.shared;
    const char* q_weight = a.q_rank > 0 ? "q_b_proj.weight" : "q_proj.weight";
    const QkRows q_content = {q_weight, nope_dim, 0, core.qk, head_norm(config, "q_norm")};
    const QkRows q_rope = {q_weight, core.shared, nope_dim, core.qk, head_norm(config, "q_rope_norm")};
    const auto query = [&](const std::vector<QkRows>& rows) -> QkSide {
        if (a.q_rank == 0) return {heads, rows};
        return {heads,
                rows,
                norm_name(config, "q_a_layernorm.weight"),
                {{"q_a_proj.weight"}},
                latent_gain(config, a.q_rank)};
    };
    const QkRows content_rows = {"kv_b_proj.weight", nope_dim, 0, nope_dim + core.v,
                                 head_norm(config, "k_norm")};
    const std::string rope_norm = head_norm(config, "k_rope_norm");
    const std::string gain = norm_name(config, "kv_a_layernorm.weight");
    const char* down = "kv_a_proj_with_mqa.weight";
    const float scale = latent_gain(config, a.kv_rank);
    const QkPart content = {query({q_content}), {heads, {content_rows}, gain, {{down, 0, a.kv_rank}}, scale}};
    if (core.shared == 0) return {content};
    return {
        .whole = {query({q_content, q_rope}),
                  {heads,
                   {content_rows, {"", core.shared, 0, 0, rope_norm}},
                   gain,
                   {{down, 0, a.kv_rank + core.shared}},
                   scale}},
        .content = content,
        .rope = QkPart{query({q_rope}), {1, {{down, core.shared, a.kv_rank, 0, rope_norm}}}},
    };
}

}  // namespace latent_attention
}  // namespace pastur
