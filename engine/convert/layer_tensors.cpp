#include "engine/convert/layer_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace pastur::convert {
namespace {

void copy_rows(Matrix& to, int64_t to_row, const Matrix& from, int64_t from_row, int64_t count) {
    std::copy_n(row_of(from, from_row), count * from.columns, row_of(to, to_row));
}

/// Per head D rows of content queries, the head's own, then d_R rows of rotary ones.
Matrix decoupled_queries(const Matrix& queries, const PartialRope& split, const HeadSizes& sizes,
                         int64_t rope_dim) {
    const int64_t head = sizes.head_dim + rope_dim;
    Matrix out = zeros(sizes.heads * head, sizes.width);
    for (int64_t h = 0; h < sizes.heads; ++h) {
        copy_rows(out, h * head, queries, h * sizes.head_dim, sizes.head_dim);
        copy_rows(out, h * head + sizes.head_dim, split.rope_queries, h * rope_dim, rope_dim);
    }
    const double scale = std::sqrt(static_cast<double>(head) / static_cast<double>(sizes.head_dim));
    for (double& value : out.values) value *= scale;
    return out;
}

/// Per head D rows of content keys, then D rows of values; heads of a group have the same.
Matrix decoupled_up(const JointLatent& joint, const HeadSizes& sizes) {
    const int64_t dim = sizes.head_dim;
    Matrix out = zeros(2 * sizes.heads * dim, joint.key_up.columns);
    for (int64_t h = 0; h < sizes.heads; ++h) {
        const int64_t from = h / sizes.group() * dim;
        copy_rows(out, 2 * h * dim, joint.key_up, from, dim);
        copy_rows(out, (2 * h + 1) * dim, joint.value_up, from, dim);
    }
    return out;
}

}  // namespace

std::string attention_prefix(int64_t layer) {
    return fmt::format("model.layers.{}.self_attn.", layer);
}

Matrix to_matrix(const std::vector<float>& values, int64_t rows, int64_t columns) {
    return {{values.begin(), values.end()}, rows, columns};
}

std::vector<float> to_floats(const Matrix& matrix) {
    std::vector<float> values(matrix.values.size());
    std::transform(matrix.values.begin(), matrix.values.end(), values.begin(),
                   [](double value) { return static_cast<float>(value); });
    return values;
}

LayerTensors decoupled_layer(const SourceLayer& from, const Matrix& moment, const Matrix& lower,
                             const HeadSizes& sizes, const ConvertOptions& options) {
    const RopePlan plan{options.rope_dim, options.fold};
    const auto groups = rotate_frequencies(from.keys, moment, sizes, plan, options.rotation);
    const PartialRope split = split_rope(from.queries, from.keys, groups, sizes, plan);
    const JointLatent joint =
        compress_jointly(split.content_keys, from.values, moment, lower, options.kv_rank);
    LayerTensors layer;
    layer.report.rope = rope_share(groups);
    layer.report.keys = kept_energy(split.content_keys, joint.key_up, joint.down, moment);
    layer.report.values = kept_energy(from.values, joint.value_up, joint.down, moment);
    layer.report.balance = joint.balance;

    Matrix down = zeros(options.kv_rank + options.rope_dim, sizes.width);
    copy_rows(down, 0, joint.down, 0, options.kv_rank);
    copy_rows(down, options.kv_rank, split.rope_keys, 0, options.rope_dim);
    layer.tensors["kv_a_proj_with_mqa.weight"] = std::move(down);
    layer.tensors["kv_b_proj.weight"] = decoupled_up(joint, sizes);
    Matrix queries = decoupled_queries(from.queries, split, sizes, options.rope_dim);
    if (options.q_rank == 0) {
        layer.tensors["q_proj.weight"] = std::move(queries);
        return layer;
    }
    LowRank latent = compress(queries, lower, options.q_rank);
    layer.report.queries = kept_energy(queries, latent.up, latent.down, moment);
    layer.tensors["q_a_proj.weight"] = std::move(latent.down);
    layer.tensors["q_b_proj.weight"] = std::move(latent.up);
    return layer;
}

}  // namespace pastur::convert
