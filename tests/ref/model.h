#pragma once
// The whole network, built from the references: maps named weights to the mean loss. If a weight has an
// imaginary perturbation, the imaginary part of the loss is the derivative along it.
#include <map>
#include <string>

#include "engine/model/attention/variants.h"
#include "tests/ref/causal_attention.h"
#include "tests/ref/cross_entropy.h"
#include "tests/ref/embedding.h"
#include "tests/ref/layer_norm.h"
#include "tests/ref/linear.h"
#include "tests/ref/rmsnorm.h"
#include "tests/ref/rope.h"
#include "tests/ref/swiglu.h"
#include "tests/ref/temporal_merge.h"

namespace pastur::ref {

template <class S>
using Weights = std::map<std::string, std::vector<S>>;

template <class S>
class ReferenceModel {
  public:
    /// separator: the token that ends a document, with data.mask_documents.
    ReferenceModel(const Config& config, const Weights<S>& weights, int64_t batch, int64_t time,
                   int32_t separator = -1)
        : config_(config),
          weights_(weights),
          batch_(batch),
          time_(time),
          rows_(batch * time),
          separator_(separator) {}

    /// Mean cross-entropy over all positions.
    S loss(const std::vector<int32_t>& tokens, const std::vector<int32_t>& targets) {
        if (config_.data.mask_documents) find_documents(tokens);
        const ModelConfig& model = config_.model;
        std::vector<S> x = embedding(w("model.embed_tokens.weight"), tokens, model.d_model);
        for (int64_t layer = 0; layer < model.layers; ++layer) {
            const std::string prefix = "model.layers." + std::to_string(layer) + ".";
            const std::vector<S> attended =
                attention(norm(x, prefix + "input_layernorm"), prefix + "self_attn.");
            x = add(x, attended);
            x = add(x, mlp(norm(x, prefix + "post_attention_layernorm"), prefix + "mlp."));
        }
        const std::string head = model.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
        const std::vector<S> logits =
            linear(norm(x, "model.norm"), w(head), rows_, model.d_model, model.vocab);
        S total(0);
        for (const S& value : cross_entropy(logits, targets, model.vocab)) total += value;
        return total / static_cast<double>(rows_);
    }

  private:
    void find_documents(const std::vector<int32_t>& tokens) {
        first_key_.clear();
        for (int64_t i = 0; i < rows_; ++i) {
            const int64_t t = i % time_;
            const bool begins = t == 0 || at(tokens, i - 1) == separator_;
            first_key_.push_back(begins ? static_cast<int32_t>(t) : first_key_.back());
        }
    }
    const std::vector<S>& w(const std::string& name) const { return weights_.at(name); }
    std::vector<S> project(const std::vector<S>& x, const std::string& name, int64_t in, int64_t out) const {
        return linear(x, w(name + ".weight"), rows_, in, out);
    }
    std::vector<S> norm(const std::vector<S>& x, const std::string& name, double eps = 0) const {
        const std::vector<S>& weight = w(name + ".weight");
        return rmsnorm(x, weight, rows_, static_cast<int64_t>(weight.size()),
                       eps > 0 ? eps : config_.model.norm_eps);
    }
    /// x where nothing is rotated: in `mha-nope` and `mla-nope`.
    std::vector<S> rotate(const std::vector<S>& x, int64_t heads, int64_t dim) const {
        if (std::string_view(name_of(config_.attention.variant)).ends_with("-nope")) return x;
        return rope(x, batch_, time_, heads, dim, config_.model.rope_theta);
    }

    std::vector<S> mlp(const std::vector<S>& x, const std::string& prefix) const {
        const int64_t width = config_.model.d_model, ffn = config_.model.ffn;
        const std::vector<S> gate = project(x, prefix + "gate_proj", width, ffn);
        const std::vector<S> up = project(x, prefix + "up_proj", width, ffn);
        const std::vector<S> active = swiglu(concat_columns(gate, ffn, up, ffn, rows_), rows_, ffn);
        return project(active, prefix + "down_proj", ffn, width);
    }

    /// Causal attention with heads of width D and k, v [rows, kv_heads D], then the output projection.
    std::vector<S> core(const std::vector<S>& q, const std::vector<S>& k, const std::vector<S>& v,
                        int64_t kv_heads, const std::string& prefix) const {
        const ModelConfig& model = config_.model;
        const AttentionSizes sizes{batch_, time_,          model.heads, kv_heads,  model.head_dim,
                                   0,      model.head_dim, 1,           first_key_};
        const double scale = 1.0 / std::sqrt(static_cast<double>(model.head_dim));
        return project(causal_attention(q, k, {}, v, sizes, scale).out, prefix + "o_proj",
                       model.heads * model.head_dim, model.d_model);
    }

    std::vector<S> attention(const std::vector<S>& x, const std::string& prefix) const {
        const std::string variant = name_of(config_.attention.variant);
        if (variant == "mla-decoupled") return decoupled(x, prefix);
        if (variant == "mla-rope" || variant == "mla-nope") return rotated_after(x, prefix);
        if (variant == "mha-shared-rope") return shared_rope(x, prefix);
        if (variant == "mtla") return temporal(x, prefix);
        if (variant == "mla-prerope")
            return config_.attention.prerope_site == PreropeSite::kInput ? prerope_input(x, prefix)
                                                                         : prerope_keys(x, prefix);
        const ModelConfig& m = config_.model;
        const std::vector<S> q = head_normed(project(x, prefix + "q_proj", m.d_model, m.heads * m.head_dim),
                                             m.head_dim, prefix + "q_norm");
        const std::vector<S> k = head_normed(
            project(x, prefix + "k_proj", m.d_model, m.kv_heads * m.head_dim), m.head_dim, prefix + "k_norm");
        const std::vector<S> v = project(x, prefix + "v_proj", m.d_model, m.kv_heads * m.head_dim);
        return core(rotate(q, m.heads, m.head_dim), rotate(k, m.kv_heads, m.head_dim), v, m.kv_heads, prefix);
    }

    /// The norm over each head's vector of x [rows, heads width] (attention.qk_norm).
    std::vector<S> head_normed(const std::vector<S>& x, int64_t width, const std::string& norm_name) const {
        if (config_.attention.qk_norm == QkNorm::kNone) return x;
        return rmsnorm(x, w(norm_name + ".weight"), static_cast<int64_t>(x.size()) / width, width,
                       config_.model.norm_eps);
    }

    std::vector<S> latent(const std::vector<S>& c, const std::string& norm_name) const {
        return latent(c, norm_name, config_.model.norm_eps);
    }
    std::vector<S> latent(const std::vector<S>& c, const std::string& norm_name, double eps) const {
        if (!config_.attention.latent_norm) return c;
        std::vector<S> normed = norm(c, norm_name, eps);
        const auto rank = static_cast<double>(w(norm_name + ".weight").size());
        if (config_.attention.latent_gain == LatentGain::kSqrt)
            for (S& x : normed) x *= std::sqrt(static_cast<double>(config_.model.d_model) / rank);
        return normed;
    }

    std::vector<S> prerope_keys(const std::vector<S>& x, const std::string& prefix) const {
        const ModelConfig& m = config_.model;
        const AttentionConfig& a = config_.attention;
        const int64_t inner = m.heads * m.head_dim;
        const auto rotated = [&](const char* projection, const char* norm_name) {
            return rotate(head_normed(project(x, prefix + projection, m.d_model, inner), m.head_dim,
                                      prefix + norm_name),
                          m.heads, m.head_dim);
        };
        const std::vector<S> q = rotated("q_proj", "q_norm"), k = rotated("k_proj", "k_norm");
        const std::vector<S> c_k = project(k, prefix + "k_a_proj", inner, a.k_rank);
        const std::vector<S> c_v = project(x, prefix + "v_a_proj", m.d_model, a.v_rank);
        return core(q, project(latent(c_k, prefix + "k_a_layernorm"), prefix + "k_b_proj", a.k_rank, inner),
                    project(latent(c_v, prefix + "v_a_layernorm"), prefix + "v_b_proj", a.v_rank, inner),
                    m.heads, prefix);
    }

    std::vector<S> prerope_input(const std::vector<S>& x, const std::string& prefix) const {
        const ModelConfig& m = config_.model;
        const int64_t inner = m.heads * m.head_dim, rank = config_.attention.kv_rank;
        const std::vector<S> q = rotate(project(x, prefix + "q_proj", m.d_model, inner), m.heads, m.head_dim);
        const std::vector<S> c =
            latent(project(rotate(x, m.heads, m.head_dim), prefix + "kv_a_proj", m.d_model, rank),
                   prefix + "kv_a_layernorm");
        return core(q, project(c, prefix + "k_b_proj", rank, inner),
                    project(c, prefix + "v_b_proj", rank, inner), m.heads, prefix);
    }

    /// Queries of `width` columns per head, through their latent where there is one.
    std::vector<S> latent_queries(const std::vector<S>& x, const std::string& prefix, int64_t width) const {
        const ModelConfig& m = config_.model;
        const int64_t rank = config_.attention.q_rank, out = m.heads * width;
        if (rank == 0) return project(x, prefix + "q_proj", m.d_model, out);
        const std::vector<S> c = project(x, prefix + "q_a_proj", m.d_model, rank);
        return project(latent(c, prefix + "q_a_layernorm", kLatentEps), prefix + "q_b_proj", rank, out);
    }

    std::vector<S> rotated_after(const std::vector<S>& x, const std::string& prefix) const {
        const ModelConfig& m = config_.model;
        const AttentionConfig& a = config_.attention;
        const int64_t heads = m.heads, width = m.head_dim, kv_head = width + a.v_dim;
        const std::vector<S> c = project(x, prefix + "kv_a_proj_with_mqa", m.d_model, a.kv_rank);
        const std::vector<S> kv = project(latent(c, prefix + "kv_a_layernorm", kLatentEps),
                                          prefix + "kv_b_proj", a.kv_rank, heads * kv_head);
        const std::vector<S> k =
            head_normed(slice_columns(kv, rows_ * heads, kv_head, 0, width), width, prefix + "k_norm");
        const std::vector<S> q = head_normed(latent_queries(x, prefix, width), width, prefix + "q_norm");
        const auto result =
            causal_attention(rotate(q, heads, width), rotate(k, heads, width), {},
                             slice_columns(kv, rows_ * heads, kv_head, width, a.v_dim),
                             AttentionSizes{batch_, time_, heads, heads, width, 0, a.v_dim, 1, first_key_},
                             1.0 / std::sqrt(static_cast<double>(width)));
        return project(result.out, prefix + "o_proj", heads * a.v_dim, m.d_model);
    }

    /// Attention with content keys k and values v of each head, and the rotary key k_r of all heads.
    std::vector<S> split_core(const std::vector<S>& q, const std::vector<S>& k, const std::vector<S>& k_r,
                              const std::vector<S>& v, const std::string& prefix, int64_t stride = 1) const {
        const AttentionConfig& a = config_.attention;
        const int64_t heads = config_.model.heads, head_rows = rows_ * heads;  // heads are rows
        const int64_t width = a.nope_dim + a.rope_dim;
        const std::vector<S> q_c =
            head_normed(slice_columns(q, head_rows, width, 0, a.nope_dim), a.nope_dim, prefix + "q_norm");
        const std::vector<S> q_r = head_normed(slice_columns(q, head_rows, width, a.nope_dim, a.rope_dim),
                                               a.rope_dim, prefix + "q_rope_norm");
        const AttentionSizes sizes{batch_,     time_,   heads,  heads,     a.nope_dim,
                                   a.rope_dim, a.v_dim, stride, first_key_};
        const auto result = causal_attention(
            concat_columns(q_c, a.nope_dim, rotate(q_r, heads, a.rope_dim), a.rope_dim, head_rows),
            head_normed(k, a.nope_dim, prefix + "k_norm"),
            rotate(head_normed(k_r, a.rope_dim, prefix + "k_rope_norm"), 1, a.rope_dim), v, sizes,
            1.0 / std::sqrt(static_cast<double>(width)));
        return project(result.out, prefix + "o_proj", heads * a.v_dim, config_.model.d_model);
    }

    std::vector<S> decoupled(const std::vector<S>& x, const std::string& prefix) const {
        const ModelConfig& m = config_.model;
        const AttentionConfig& a = config_.attention;
        const int64_t heads = m.heads, kv_head = a.nope_dim + a.v_dim, a_width = a.kv_rank + a.rope_dim;
        const std::vector<S> ckr = project(x, prefix + "kv_a_proj_with_mqa", m.d_model, a_width);
        const std::vector<S> c = slice_columns(ckr, rows_, a_width, 0, a.kv_rank);
        const std::vector<S> kv = project(latent(c, prefix + "kv_a_layernorm", kLatentEps),
                                          prefix + "kv_b_proj", a.kv_rank, heads * kv_head);
        return split_core(latent_queries(x, prefix, a.nope_dim + a.rope_dim),
                          slice_columns(kv, rows_ * heads, kv_head, 0, a.nope_dim),
                          slice_columns(ckr, rows_, a_width, a.kv_rank, a.rope_dim),
                          slice_columns(kv, rows_ * heads, kv_head, a.nope_dim, a.v_dim), prefix);
    }

    std::vector<S> shared_rope(const std::vector<S>& x, const std::string& prefix) const {
        const AttentionConfig& a = config_.attention;
        const int64_t heads = config_.model.heads;
        const auto projected = [&](const char* name, int64_t out) {
            return project(x, prefix + name, config_.model.d_model, out);
        };
        return split_core(projected("q_proj", heads * (a.nope_dim + a.rope_dim)),
                          projected("k_proj", heads * a.nope_dim), projected("k_rope_proj", a.rope_dim),
                          projected("v_proj", heads * a.v_dim), prefix);
    }

    std::vector<S> temporal(const std::vector<S>& x, const std::string& prefix) const {
        constexpr double kMergedEps = 1e-5;
        const ModelConfig& m = config_.model;
        const AttentionConfig& a = config_.attention;
        const MergeSizes n{batch_,    time_, a.stride, a.kv_rank, std::max<int64_t>(a.kv_rank / 4, 1),
                           first_key_};
        const std::vector<S> q =
            project(x, prefix + "q_proj", m.d_model, m.heads * (a.nope_dim + a.rope_dim));
        const int64_t a_width = a.kv_rank + a.rope_dim;
        const std::vector<S> ckr = project(x, prefix + "kv_a_proj_with_mqa", m.d_model, a_width);
        const std::vector<S> c =
            layer_norm(slice_columns(ckr, rows_, a_width, 0, a.kv_rank), w(prefix + "kv_a_layernorm.weight"),
                       w(prefix + "kv_a_layernorm.bias"), rows_, a.kv_rank, kMergedEps);
        const std::vector<S> latent_code = project(c, prefix + "merge_latent_proj", a.kv_rank, n.code);
        const std::vector<S> chunk_code =
            linear(lift<S>(chunk_positions(n.chunks(), a.kv_rank)), w(prefix + "merge_chunk_proj.weight"),
                   n.chunks(), a.kv_rank, n.code);
        const std::vector<S> gates =
            merge_gates(latent_code, chunk_code, w(prefix + "merge_latent_proj.bias"),
                        w(prefix + "merge_chunk_proj.bias"), n);
        const int64_t kv_head = a.nope_dim + a.v_dim, head_rows = rows_ * m.heads;
        const std::vector<S> kv =
            project(temporal_merge(c, gates, n), prefix + "kv_b_proj", a.kv_rank, m.heads * kv_head);
        return split_core(q, slice_columns(kv, head_rows, kv_head, 0, a.nope_dim),
                          slice_columns(ckr, rows_, a_width, a.kv_rank, a.rope_dim),
                          slice_columns(kv, head_rows, kv_head, a.nope_dim, a.v_dim), prefix, a.stride);
    }

    static constexpr double kLatentEps =
        1e-6;  ///< of the norms of `mla-decoupled`, `mla-rope` and `mla-nope`
    const Config& config_;
    const Weights<S>& weights_;
    int64_t batch_, time_, rows_;
    int32_t separator_;
    std::vector<int32_t> first_key_;  ///< [batch, time]; empty: documents are not masked
};

}  // namespace pastur::ref
