// Latent attention with rotary before compression (VARIANTS: `mla-prerope`): the cached latent carries
// position. attention.prerope_site: "keys" rotates the full-width keys, then compresses them; "input" rotates
// the layer's input, then compresses it into one joint latent.
#include "engine/model/attention/absorbed_core.h"
#include "engine/model/attention/attention.h"
#include "engine/model/attention/head_norm.h"
#include "engine/model/attention/latent.h"
#include "kernels/attention/rope.h"

namespace pastur {
namespace {

/// What both sites share: full-width keys and values, and queries that the core rotates.
class PreRopeAttention : public Attention {
  protected:
    PreRopeAttention(const Config& config, Parameters& params)
        : Attention(config, params), head_dim_(config.model.head_dim), inner_(heads_ * head_dim_) {}

    /// rope_table: empty where the queries are rotated already.
    void forward_core(Context& ctx, Tensor out, ConstTensor residual, ConstTensor rope_table) {
        Attention::forward_core(ctx, out, residual, {heads_of(q()), {}, rope_table});
    }

    /// dq is the gradient of the queries before their rotation.
    void backward_core(Context& ctx, Tensor dq, Tensor dk, Tensor dv, const LinearInput& dout,
                       ConstTensor rope_table, Update update) {
        Attention::backward_core(ctx, {heads_of(dq), heads_of(dk), {}, heads_of(dv), rope_table, false}, dout,
                                 update);
    }

    void plan_decode(Context& ctx, Planner& planner, const LayerCache& cache) final {
        absorbed_.plan(ctx, planner, decode_inputs({}, cache), heads_);
    }
    /// decode() after the queries q() are rotated. key_up, value_up: [H D, rank].
    void decode_core(Context& ctx, Tensor out, ConstTensor residual, const DecodeStep& step,
                     const LayerCache& cache, ConstTensor key_up, ConstTensor value_up) {
        append(ctx, step, cache);
        absorbed_.attend(ctx, core_output(), decode_inputs(step, cache),
                         key_up.unflatten(0, heads_, head_dim_), value_up.unflatten(0, heads_, head_dim_));
        project_output(ctx, out, residual);
    }
    /// The latents as keys and values: two, or a joint one.
    DecodeInputs decode_inputs(const DecodeStep& step, const LayerCache& cache) const {
        return decode_operands(step, q().unflatten(1, heads_, head_dim_), cache.parts.front(),
                               cache.parts.back());
    }

    /// x [N, H D] as [B, T, H, D]: a view.
    Tensor heads_of(Tensor x) const { return Attention::heads_of(x, heads_, head_dim_); }
    void rotate(Context& ctx, Tensor out, ConstTensor in, ConstTensor table, Rotation rotation) const {
        rope(ctx, heads_of(out), in.unflatten(0, shape_.batch, shape_.time).unflatten(2, heads_, head_dim_),
             table, rotation);
    }

    /// q, k, v of the core, [N, H D] each.
    virtual Tensor q() const = 0;
    virtual Tensor k() const = 0;
    virtual Tensor v() const = 0;
    AttentionInputs core_inputs() const final {
        return {heads_of(q()), heads_of(k()), {}, heads_of(v()), scale_};
    }

    int64_t head_dim_, inner_;

  private:
    AbsorbedCore absorbed_;
};

/// q = R(X W_Q); K^ = R(X W_K) W_DK W_UK; V^ = X W_DV W_UV.
class PreRopeKeys final : public PreRopeAttention {
  public:
    PreRopeKeys(const Config& config, Parameters& params, const std::string& prefix)
        : PreRopeAttention(config, params),
          k_rank_(config.attention.k_rank),
          v_rank_(config.attention.v_rank),
          k_latent_(params, config.attention.latent_norm ? prefix + "k_a_layernorm.weight" : "", k_rank_,
                    config.model.norm_eps, latent_gain(config, k_rank_)),
          v_latent_(params, config.attention.latent_norm ? prefix + "v_a_layernorm.weight" : "", v_rank_,
                    config.model.norm_eps, latent_gain(config, v_rank_)),
          q_norm_(config, params, prefix, {{"q_norm", head_dim_}}),
          k_norm_(config, params, prefix, {{"k_norm", head_dim_}}) {
        ParamTable& table = params.table();
        in_proj_ = Linear(params, table.add_matrix_group({{prefix + "q_proj.weight", inner_},
                                                          {prefix + "k_proj.weight", inner_},
                                                          {prefix + "v_a_proj.weight", v_rank_}},
                                                         width_));
        k_a_proj_ = Linear(params, table.add_matrix(prefix + "k_a_proj.weight", k_rank_, inner_));
        k_b_proj_ = Linear(params, table.add_matrix(prefix + "k_b_proj.weight", inner_, k_rank_));
        v_b_proj_ = Linear(params, table.add_matrix(prefix + "v_b_proj.weight", inner_, v_rank_));
        add_o_proj(prefix);
    }

    void plan(Context& ctx, Planner& planner, const BatchShape& shape) override {
        const DType dtype = params_.compute_dtype();
        const int64_t tokens = shape.tokens();
        Planner::Temporaries temporaries(planner);
        qkc_ = planner.keep(dtype, {tokens, 2 * inner_ + v_rank_});
        c_k_ = planner.keep(dtype, {tokens, k_rank_});
        k_ = planner.keep(dtype, {tokens, inner_});
        v_ = planner.keep(dtype, {tokens, inner_});
        k_latent_.plan(ctx, planner, temporaries, tokens);
        v_latent_.plan(ctx, planner, temporaries, tokens);
        q_norm_.plan(ctx, planner, temporaries, tokens, heads_);
        k_norm_.plan(ctx, planner, temporaries, tokens, heads_);
        dqkc_ = temporaries.take(dtype, qkc_.shape());
        dc_k_ = temporaries.take(dtype, c_k_.shape());
        dk_ = temporaries.take(dtype, k_.shape());
        dv_ = temporaries.take(dtype, v_.shape());
        in_proj_.plan(ctx, planner, tokens, {.x = true});
        for (const Linear* linear : {&k_a_proj_, &k_b_proj_, &v_b_proj_}) linear->plan(ctx, planner, tokens);
        plan_core(ctx, planner, temporaries, shape);
        if (!q_norm_.on()) plan_rotation(ctx);
    }

    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        const bool rotated = project(ctx, xn, rope_table);
        k_b_proj_.forward(ctx, k_, k_latent_.value(c_k_));
        v_b_proj_.forward(ctx, v_, v_latent_.value(c_v_of(qkc_)));
        forward_core(ctx, out, residual, rotated ? ConstTensor() : rope_table);
    }

    void decode(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual, const DecodeStep& step,
                const LayerCache& cache) override {
        if (!project(ctx, xn, step.rope_rows)) rotate(ctx, q(), q(), step.rope_rows, Rotation::kForward);
        decode_core(ctx, out, residual, step, cache, k_b_proj_.weight(), v_b_proj_.weight());
    }

    std::vector<ConstTensor> cached() const override {
        return {k_latent_.value(c_k_), v_latent_.value(c_v_of(qkc_))};
    }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        backward_core(ctx, flat(q_norm_.value_gradient(by_head(q_of(dqkc_)))), dk_, dv_, dout, rope_table,
                      update);
        q_norm_.backward(ctx, by_head(q_of(dqkc_)), by_head(q_of(qkc_)), update);

        v_b_proj_.backward_weight(ctx, dv_, v_latent_.value(c_v_of(qkc_)), update);
        v_b_proj_.backward_input(ctx, v_latent_.value_gradient(c_v_of(dqkc_)), dv_);
        v_latent_.backward(ctx, c_v_of(dqkc_), c_v_of(qkc_), update);

        k_b_proj_.backward_weight(ctx, dk_, k_latent_.value(c_k_), update);
        k_b_proj_.backward_input(ctx, k_latent_.value_gradient(dc_k_), dk_);
        k_latent_.backward(ctx, dc_k_, c_k_, update);
        k_a_proj_.backward_weight(ctx, dc_k_, rotated_k(), update);
        const Tensor dk = flat(k_norm_.value_gradient(by_head(full_k_of(dqkc_))));
        k_a_proj_.backward_input(ctx, dk, dc_k_);

        rotate(ctx, dk, dk, rope_table, Rotation::kInverse);
        k_norm_.backward(ctx, by_head(full_k_of(dqkc_)), by_head(full_k_of(qkc_)), update);
        in_proj_.backward_input(ctx, dxn, dqkc_);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor, Update update) override {
        in_proj_.backward_weight(ctx, dqkc_, xn, update);
    }

  private:
    /// Queries and latents. Returns whether the queries are rotated.
    bool project(Context& ctx, const LinearInput& xn, ConstTensor rope_table) {
        const ConstTensor table = q_norm_.on() ? ConstTensor() : rope_table;
        const bool rotated = in_proj_.forward_rotating(ctx, qkc_, xn, {table, 2 * heads_, shape_.time});
        q_norm_.forward(ctx, by_head(q_of(qkc_)));
        k_norm_.forward(ctx, by_head(full_k_of(qkc_)));
        if (!rotated) rotate(ctx, rotated_k(), rotated_k(), rope_table, Rotation::kForward);
        k_a_proj_.forward(ctx, c_k_, rotated_k());
        k_latent_.forward(ctx, c_k_);
        v_latent_.forward(ctx, c_v_of(qkc_));
        return rotated;
    }
    Tensor q_of(Tensor qkc) const { return qkc.slice(1, 0, inner_); }
    Tensor full_k_of(Tensor qkc) const { return qkc.slice(1, inner_, inner_); }
    Tensor c_v_of(Tensor qkc) const { return qkc.slice(1, 2 * inner_, v_rank_); }
    /// Heads of x [N, H D] as [N, H, D], and back.
    Tensor by_head(Tensor x) const { return x.unflatten(1, heads_, head_dim_); }
    Tensor flat(Tensor x) const { return merge_heads(x); }
    /// What is compressed to the latent of the keys.
    Tensor rotated_k() const { return flat(k_norm_.value(by_head(full_k_of(qkc_)))); }
    Tensor q() const override { return flat(q_norm_.value(by_head(q_of(qkc_)))); }
    Tensor k() const override { return k_; }
    Tensor v() const override { return v_; }
    std::vector<NamedLatent> latents() const override {
        return {{"c_k", k_latent_.value(c_k_)}, {"c_v", v_latent_.value(c_v_of(qkc_))}};
    }

    int64_t k_rank_, v_rank_;
    Latent k_latent_, v_latent_;
    HeadNorm q_norm_, k_norm_;
    Linear k_a_proj_, k_b_proj_, v_b_proj_;
    Tensor qkc_;                    ///< [N, 2 H D + v_rank]: queries, keys (both rotated), value latent
    Tensor c_k_;                    ///< [N, k_rank]
    Tensor k_, v_;                  ///< [N, H D], decompressed
    Tensor dqkc_, dc_k_, dk_, dv_;  ///< within one backward()
};

/// q = R(X W_Q); c = R(X) W_DKV, X rotated in H blocks of D; K^ = c W_UK; V^ = c W_UV.
class PreRopeInput final : public PreRopeAttention {
  public:
    PreRopeInput(const Config& config, Parameters& params, const std::string& prefix)
        : PreRopeAttention(config, params),
          kv_rank_(config.attention.kv_rank),
          latent_(params, config.attention.latent_norm ? prefix + "kv_a_layernorm.weight" : "", kv_rank_,
                  config.model.norm_eps, latent_gain(config, kv_rank_)) {
        ParamTable& table = params.table();
        in_proj_ = Linear(params, table.add_matrix(prefix + "q_proj.weight", inner_, width_));
        kv_a_proj_ = Linear(params, table.add_matrix(prefix + "kv_a_proj.weight", kv_rank_, width_));
        kv_b_proj_ = Linear(params, table.add_matrix_group({{prefix + "k_b_proj.weight", inner_},
                                                            {prefix + "v_b_proj.weight", inner_}},
                                                           kv_rank_));
        add_o_proj(prefix);
    }

    void plan(Context& ctx, Planner& planner, const BatchShape& shape) override {
        const DType dtype = params_.compute_dtype();
        const int64_t tokens = shape.tokens();
        Planner::Temporaries temporaries(planner);
        q_ = planner.keep(dtype, {tokens, inner_});
        c_ = planner.keep(dtype, {tokens, kv_rank_});
        kv_ = planner.keep(dtype, {tokens, 2 * inner_});
        latent_.plan(ctx, planner, temporaries, tokens);
        rotated_x_ = temporaries.take(dtype, {tokens, width_});
        dq_ = temporaries.take(dtype, q_.shape());
        dc_ = temporaries.take(dtype, c_.shape());
        dkv_ = temporaries.take(dtype, kv_.shape());
        in_proj_.plan(ctx, planner, tokens, {.x = true});
        for (const Linear* linear : {&kv_a_proj_, &kv_b_proj_}) linear->plan(ctx, planner, tokens);
        plan_core(ctx, planner, temporaries, shape);
    }

    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                 ConstTensor rope_table) override {
        kv_b_proj_.forward(ctx, kv_, project(ctx, xn, rope_table));
        forward_core(ctx, out, residual, rope_table);
    }

    void decode(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual, const DecodeStep& step,
                const LayerCache& cache) override {
        project(ctx, xn, step.rope_rows);
        rotate(ctx, q_, q_, step.rope_rows, Rotation::kForward);
        const ConstTensor up = kv_b_proj_.weight();
        decode_core(ctx, out, residual, step, cache, up.slice(0, 0, inner_), up.slice(0, inner_, inner_));
    }

    std::vector<ConstTensor> cached() const override { return {latent_.value(c_)}; }

    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                  Update update) override {
        backward_core(ctx, dq_, dkv_.slice(1, 0, inner_), dkv_.slice(1, inner_, inner_), dout, rope_table,
                      update);

        kv_b_proj_.backward_weight(ctx, dkv_, latent_.value(c_), update);
        kv_b_proj_.backward_input(ctx, latent_.value_gradient(dc_), dkv_);
        latent_.backward(ctx, dc_, c_, update);
        kv_a_proj_.backward_input(ctx, dxn, dc_);
        rotate(ctx, dxn, dxn, rope_table, Rotation::kInverse);
        in_proj_.backward_input(ctx, dxn, dq_, Update::kAccumulate);
    }

    void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor rope_table,
                                Update update) override {
        rotate(ctx, rotated_x_, xn, rope_table, Rotation::kForward);
        kv_a_proj_.backward_weight(ctx, dc_, rotated_x_, update);
        in_proj_.backward_weight(ctx, dq_, xn, update);
    }

  private:
    /// Queries, not rotated, and the latent, which it returns.
    ConstTensor project(Context& ctx, const LinearInput& xn, ConstTensor rope_table) {
        in_proj_.forward(ctx, q_, xn);
        rotate(ctx, rotated_x_, xn.numbers, rope_table, Rotation::kForward);
        kv_a_proj_.forward(ctx, c_, rotated_x_);
        return latent_.forward(ctx, c_);
    }
    Tensor q() const override { return q_; }
    Tensor k() const override { return kv_.slice(1, 0, inner_); }
    Tensor v() const override { return kv_.slice(1, inner_, inner_); }
    std::vector<NamedLatent> latents() const override { return {{"c_kv", latent_.value(c_)}}; }

    int64_t kv_rank_;
    Latent latent_;
    Linear kv_a_proj_, kv_b_proj_;
    Tensor q_;              ///< [N, H D], rotated
    Tensor c_;              ///< [N, kv_rank]
    Tensor kv_;             ///< [N, 2 H D]: keys, values
    Tensor rotated_x_;      ///< [N, C], within one forward() or backward_input_weights()
    Tensor dq_, dc_, dkv_;  ///< within one backward()
};

bool rotates_input(const Config& config) {
    return config.attention.prerope_site == PreropeSite::kInput;
}
bool normalises_latents(const Config& config) {
    return config.attention.latent_norm;
}
bool rotates_keys(const Config& config) {
    return !rotates_input(config);
}

void fill_sizes(RawRecipe& recipe) {
    AttentionConfig& a = recipe.config.attention;
    const ModelConfig& m = recipe.config.model;
    const int64_t keys = m.heads * m.head_dim;
    const auto said = [&](const char* key) { return recipe.describe("model", key); };
    check_even(recipe, "model", "head_dim", m.head_dim);
    if (rotates_input(recipe.config)) {
        if (keys != m.d_model)
            fail(ExitCode::kUsage,
                 "attention: prerope_site = \"input\" rotates the model's width in heads: {} x {} is not {}",
                 said("heads"), said("head_dim"), said("d_model"));
        fill(a.kv_rank, m.d_model / 2);
        check_rank(recipe, "kv_rank", a.kv_rank, m.d_model, said("d_model"));
        return;
    }
    fill(a.k_rank, m.d_model / 4);
    fill(a.v_rank, m.d_model / 4);
    check_rank(recipe, "k_rank", a.k_rank, keys, fmt::format("{} x {}", said("heads"), said("head_dim")));
    check_rank(recipe, "v_rank", a.v_rank, m.d_model, said("d_model"));
}

QkForm qk_form(const Config& config) {
    const int64_t heads = config.model.heads, width = config.model.head_dim;
    const auto rows = [&](const char* weight, const std::string& norm = "") {
        return QkRows{weight, width, 0, width, norm};
    };
    const auto gain = [&](const char* norm) { return config.attention.latent_norm ? norm : ""; };
    const QkSide query = {heads, {rows("q_proj.weight", head_norm(config, "q_norm"))}};
    if (rotates_input(config))
        return {.whole = {query,
                          {heads,
                           {rows("k_b_proj.weight")},
                           gain("kv_a_layernorm.weight"),
                           {{"kv_a_proj.weight"}},
                           latent_gain(config, config.attention.kv_rank)}},
                .rotated_before_compression = true};  // R at the end of the chain changes no eigenvalue
    return {.whole = {query,
                      {heads,
                       {rows("k_b_proj.weight")},
                       gain("k_a_layernorm.weight"),
                       {{"k_a_proj.weight"}, {"k_proj.weight", 0, 0, true, head_norm(config, "k_norm")}},
                       latent_gain(config, config.attention.k_rank)}},
            .rotated_before_compression = true};
}

}  // namespace

extern constinit const VariantInfo kMlaPrerope = {
    .name = "mla-prerope",
    .keys = {{"attention", "prerope_site"},
             {"attention", "latent_norm"},
             {"attention", "latent_gain", "latent_norm = true", normalises_latents},
             {"attention", "kv_rank", "prerope_site = \"input\"", rotates_input},
             {"attention", "qk_norm", "prerope_site = \"keys\"", rotates_keys},
             {"attention", "k_rank", "prerope_site = \"keys\"", rotates_keys},
             {"attention", "v_rank", "prerope_site = \"keys\"", rotates_keys}},
    .fill = fill_sizes,
    .make =
        [](const Config& config, Parameters& params, const std::string& prefix) {
            return rotates_input(config) ? make_attention<PreRopeInput>(config, params, prefix)
                                         : make_attention<PreRopeKeys>(config, params, prefix);
        },
    .core_widths =
        [](const Config& c) {
            return CoreWidths{c.model.head_dim, c.model.head_dim};
        },
    .rope_width = [](const Config& c) { return c.model.head_dim; },
    .cache =
        [](const Config& c) {
            const AttentionConfig& a = c.attention;
            if (rotates_input(c)) return CacheLayout{{{"latent", 1, a.kv_rank}}};
            return CacheLayout{{{"key latent", 1, a.k_rank}, {"value latent", 1, a.v_rank}}};
        },
    .qk_form = qk_form,
    .scopes = {Scope::kHead, Scope::kLayer, Scope::kLiteral, Scope::kWeights},
    .default_scopes = {Scope::kHead, Scope::kLayer},
};

}  // namespace pastur
