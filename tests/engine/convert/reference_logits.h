#pragma once
// A model of variant `mha` in double precision with another attention in place of its own, for stages of a conversion that
// no variant of the engine computes.
#include <functional>

#include "engine/convert/layer_tensors.h"
#include "tests/ref/causal_attention.h"
#include "tests/ref/embedding.h"
#include "tests/ref/linear.h"
#include "tests/ref/rmsnorm.h"
#include "tests/ref/rope.h"
#include "tests/ref/swiglu.h"

namespace pastur::test {

using convert::FrequencyGroup;
using convert::HeadSizes;
using convert::Matrix;
using convert::PartialRope;
using convert::SourceLayer;
using Values = std::vector<double>;

/// The text of a comparison: B sequences of T tokens.
struct ReferenceText {
    std::vector<int32_t> tokens;
    int64_t batch, time;
    int64_t rows() const { return batch * time; }
};

/// [rows, H D] from the layer's normalised input [rows, C].
using ReferenceAttention = std::function<Values(int64_t layer, const Values& x)>;

inline Values widened(const std::vector<float>& values) {
    return {values.begin(), values.end()};
}

inline Values reference_logits(const Config& config, const ReadTensor& read, const ReferenceText& text,
                               const ReferenceAttention& attention) {
    const ModelConfig& m = config.model;
    const int64_t rows = text.rows();
    const auto w = [&](const std::string& name) { return widened(read(name + ".weight")); };
    const auto norm = [&](const Values& x, const std::string& name) {
        return ref::rmsnorm(x, w(name), rows, m.d_model, m.norm_eps);
    };
    Values x = ref::embedding(w("model.embed_tokens"), text.tokens, m.d_model);
    for (int64_t layer = 0; layer < m.layers; ++layer) {
        const std::string prefix = "model.layers." + std::to_string(layer) + ".";
        const Values heads = attention(layer, norm(x, prefix + "input_layernorm"));
        x = ref::add(
            x, ref::linear(heads, w(prefix + "self_attn.o_proj"), rows, m.heads * m.head_dim, m.d_model));
        const Values in = norm(x, prefix + "post_attention_layernorm");
        const Values gate = ref::linear(in, w(prefix + "mlp.gate_proj"), rows, m.d_model, m.ffn);
        const Values up = ref::linear(in, w(prefix + "mlp.up_proj"), rows, m.d_model, m.ffn);
        const Values active = ref::swiglu(ref::concat_columns(gate, m.ffn, up, m.ffn, rows), rows, m.ffn);
        x = ref::add(x, ref::linear(active, w(prefix + "mlp.down_proj"), rows, m.ffn, m.d_model));
    }
    return ref::linear(norm(x, "model.norm"), w(m.tie_embeddings ? "model.embed_tokens" : "lm_head"), rows,
                       m.d_model, m.vocab);
}

inline Values project(const Values& x, const Matrix& w, int64_t rows) {
    return ref::linear(x, w.values, rows, w.columns, w.rows);
}

/// The stacked keys of all g heads, every component rotated: heads of g slots of width D, where slot e holds component e
/// of each frequency, and the queries of each head in the same basis. Groups of one frequency.
struct StackedLayer {
    Matrix keys, queries;  ///< [g D, C], [H g D, C]
};
inline StackedLayer stacked_layer(const SourceLayer& from, const std::vector<FrequencyGroup>& groups,
                                  const HeadSizes& n) {
    const int64_t wide = n.kv_heads * n.head_dim;
    StackedLayer out{convert::zeros(wide, n.width), convert::zeros(n.heads * wide, n.width)};
    const auto place = [&](Matrix& to, int64_t row, const Matrix& pair) {
        std::copy_n(convert::row_of(pair, 0), n.width, convert::row_of(to, row));
        std::copy_n(convert::row_of(pair, 1), n.width, convert::row_of(to, row + n.frequencies()));
    };
    for (const FrequencyGroup& group : groups)
        for (int64_t e = 0; e < n.kv_heads; ++e) {
            const int64_t row = e * n.head_dim + group.first;
            place(out.keys, row, convert::component_keys(from.keys, group, e, n));
            for (int64_t h = 0; h < n.heads; ++h)
                place(out.queries, h * wide + row, convert::component_queries(from.queries, group, e, h, n));
        }
    return out;
}

/// Attention of a stacked layer: one key for all heads, RoPE in every slot; values are those of the source.
inline Values stacked_attention(const StackedLayer& layer, const Matrix& values, const Values& x,
                                const Config& config, const ReferenceText& text) {
    const HeadSizes n = convert::head_sizes(config);
    const double base = config.model.rope_theta;
    const Values q = ref::rope(project(x, layer.queries, text.rows()), text.batch, text.time,
                               n.heads * n.kv_heads, n.head_dim, base);
    const Values k =
        ref::rope(project(x, layer.keys, text.rows()), text.batch, text.time, n.kv_heads, n.head_dim, base);
    const ref::AttentionSizes sizes{text.batch, text.time, n.heads, n.kv_heads, 0, n.kv_heads * n.head_dim,
                                    n.head_dim};
    return ref::causal_attention(q, {}, k, project(x, values, text.rows()), sizes,
                                 1 / std::sqrt(static_cast<double>(n.head_dim)))
        .out;
}

/// Attention with RoPE in the leading components alone.
inline Values partial_rope_attention(const PartialRope& split, const SourceLayer& from, const Values& x,
                                     const Config& config, int64_t rope_dim, const ReferenceText& text) {
    const HeadSizes n = convert::head_sizes(config);
    const int64_t rows = text.rows();
    const double base = config.model.rope_theta;
    const Values q = ref::concat_columns(
        project(x, from.queries, rows), n.head_dim,
        ref::rope(project(x, split.rope_queries, rows), text.batch, text.time, n.heads, rope_dim, base),
        rope_dim, rows * n.heads);
    const Values k_rope =
        ref::rope(project(x, split.rope_keys, rows), text.batch, text.time, 1, rope_dim, base);
    const ref::AttentionSizes sizes{text.batch, text.time, n.heads,   n.kv_heads,
                                    n.head_dim, rope_dim,  n.head_dim};
    return ref::causal_attention(q, project(x, split.content_keys, rows), k_rope,
                                 project(x, from.values, rows), sizes,
                                 1 / std::sqrt(static_cast<double>(n.head_dim)))
        .out;
}

inline SourceLayer source_layer(const Config& config, const ReadTensor& read, int64_t layer) {
    const HeadSizes n = convert::head_sizes(config);
    const std::string prefix = convert::attention_prefix(layer);
    const auto weight = [&](const char* name, int64_t heads) {
        return convert::to_matrix(read(prefix + name), heads * n.head_dim, n.width);
    };
    return {weight("q_proj.weight", n.heads), weight("k_proj.weight", n.kv_heads),
            weight("v_proj.weight", n.kv_heads)};
}

}  // namespace pastur::test
