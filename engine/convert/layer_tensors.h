#pragma once
// One layer's attention: its weights as matrices, and stages 1 to 5 of a conversion put together.
#include "engine/convert/conversion.h"

namespace pastur::convert {

/// "model.layers.3.self_attn."
std::string attention_prefix(int64_t layer);
Matrix to_matrix(const std::vector<float>& values, int64_t rows, int64_t columns);
std::vector<float> to_floats(const Matrix& matrix);

/// W_Q [H D, C], W_K, W_V [g D, C].
struct SourceLayer {
    Matrix queries, keys, values;
};

/// Tensors of `mla-decoupled` by their names without the layer's prefix; o_proj is the source's.
struct LayerTensors {
    std::map<std::string, Matrix> tensors;
    LayerReport report;
};

/// moment: E[x x^T] of the attention's inputs; lower: its Cholesky factor. Queries are scaled by sqrt((D + d_R) / D),
/// which undoes the scale of the wider heads.
LayerTensors decoupled_layer(const SourceLayer& from, const Matrix& moment, const Matrix& lower,
                             const HeadSizes& sizes, const ConvertOptions& options);

}  // namespace pastur::convert
