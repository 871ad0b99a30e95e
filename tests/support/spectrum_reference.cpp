#include "tests/support/spectrum_reference.h"

#include <lapacke.h>

#include "engine/model/attention/variants.h"

namespace pastur::test {

Dense Dense::transposed() const {
    Dense out{columns, rows, std::vector<double>(values.size())};
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) out.at(j, i) = at(i, j);
    return out;
}

Dense Dense::row_slice(int64_t begin, int64_t count) const {
    return {count, columns, {values.begin() + begin * columns, values.begin() + (begin + count) * columns}};
}

Dense operator*(const Dense& a, const Dense& b) {
    PASTUR_CHECK(a.columns == b.rows, "{} columns, {} rows", a.columns, b.rows);
    Dense out{a.rows, b.columns, std::vector<double>(static_cast<size_t>(a.rows * b.columns))};
    for (int64_t i = 0; i < a.rows; ++i)
        for (int64_t k = 0; k < a.columns; ++k)
            for (int64_t j = 0; j < b.columns; ++j) out.at(i, j) += a.at(i, k) * b.at(k, j);
    return out;
}

Dense operator+(const Dense& a, const Dense& b) {
    if (a.values.empty()) return b;
    Dense out = a;
    for (size_t i = 0; i < out.values.size(); ++i) out.values[i] += b.values[i];
    return out;
}

std::vector<double> squared_singular_values(const Dense& matrix) {
    std::vector<double> work = matrix.values, unused(1);
    std::vector<double> values(static_cast<size_t>(std::min(matrix.rows, matrix.columns)));
    std::vector<double> superdiagonal(values.size());
    const lapack_int info = LAPACKE_dgesvd(LAPACK_ROW_MAJOR, 'N', 'N', static_cast<lapack_int>(matrix.rows),
                                           static_cast<lapack_int>(matrix.columns), work.data(),
                                           static_cast<lapack_int>(matrix.columns), values.data(),
                                           unused.data(), 1, unused.data(), 1, superdiagonal.data());
    PASTUR_CHECK(info == 0, "dgesvd failed with info = {}", info);
    for (double& value : values) value *= value;
    return values;
}

Dense DenseWeights::weight(int64_t layer, const std::string& name, int64_t in) const {
    const std::vector<double>& stored =
        weights_.at(fmt::format("model.layers.{}.self_attn.{}.weight", layer, name));
    return Dense{static_cast<int64_t>(stored.size()) / in, in, stored}.transposed();
}

Dense DenseWeights::gained(int64_t layer, const std::string& norm, Dense matrix) const {
    const std::vector<double>& gain =
        weights_.at(fmt::format("model.layers.{}.self_attn.{}.weight", layer, norm));
    const bool scaled = config_.attention.latent_gain == LatentGain::kSqrt;
    const auto width = static_cast<double>(config_.model.d_model), rank = static_cast<double>(matrix.rows);
    const double scale = scaled ? static_cast<float>(std::sqrt(width / rank)) : 1;
    for (int64_t i = 0; i < matrix.rows; ++i)
        for (int64_t j = 0; j < matrix.columns; ++j) matrix.at(i, j) *= scale * gain[static_cast<size_t>(i)];
    return matrix;
}

namespace {
Dense columns_of(const Dense& matrix, int64_t begin, int64_t count) {
    return matrix.transposed().row_slice(begin, count).transposed();
}
Dense beside(const Dense& a, const Dense& b) {
    Dense out = a.transposed();
    const Dense more = b.transposed();
    out.values.insert(out.values.end(), more.values.begin(), more.values.end());
    out.rows += more.rows;
    return out.transposed();
}
}  // namespace

/// Columns of a map to heads, scaled by the norm over each head's vector (attention.qk_norm).
Dense DenseWeights::normed(int64_t layer, const std::string& norm, Dense map) const {
    if (config_.attention.qk_norm == QkNorm::kNone) return map;
    const std::vector<double>& gain =
        weights_.at(fmt::format("model.layers.{}.self_attn.{}.weight", layer, norm));
    for (int64_t i = 0; i < map.rows; ++i)
        for (int64_t j = 0; j < map.columns; ++j) map.at(i, j) *= gain[static_cast<size_t>(j) % gain.size()];
    return map;
}

Dense DenseWeights::query(const std::string& part, int64_t layer, int64_t head) const {
    const int64_t d = config_.model.d_model, rank = config_.attention.q_rank;
    const bool split = config_.attention.rope_dim > 0;
    const int64_t content = config_.attention.nope_dim, rope = config_.attention.rope_dim;
    const int64_t width = split ? content + rope : config_.model.head_dim;
    const Dense all = rank > 0 ? weight(layer, "q_a_proj", d) *
                                     gained(layer, "q_a_layernorm", weight(layer, "q_b_proj", rank))
                               : weight(layer, "q_proj", d);
    const Dense mine = columns_of(all, head * width, width);
    if (!split)
        return config_.attention.prerope_site == PreropeSite::kInput ? mine : normed(layer, "q_norm", mine);
    const Dense first = normed(layer, "q_norm", columns_of(mine, 0, content));
    const Dense second = normed(layer, "q_rope_norm", columns_of(mine, content, rope));
    return part == "_content" ? first : part == "_rope" ? second : beside(first, second);
}

Dense DenseWeights::key(const std::string& part, int64_t layer, int64_t head) const {
    const AttentionConfig& a = config_.attention;
    const int64_t d = config_.model.d_model, width = config_.model.head_dim;
    const bool norm = a.latent_norm;
    const std::string variant = name_of(config_.attention.variant);
    if (variant == "mha-shared-rope") {
        const Dense content =
            normed(layer, "k_norm", columns_of(weight(layer, "k_proj", d), head * a.nope_dim, a.nope_dim));
        const Dense rope = normed(layer, "k_rope_norm", weight(layer, "k_rope_proj", d));
        return part == "_content" ? content : part == "_rope" ? rope : beside(content, rope);
    }
    if (variant == "mla-rope" || variant == "mla-nope") {
        const Dense up = gained(layer, "kv_a_layernorm", weight(layer, "kv_b_proj", a.kv_rank));
        const Dense down = weight(layer, "kv_a_proj_with_mqa", d);
        return normed(layer, "k_norm", down * columns_of(up, head * (width + a.v_dim), width));
    }
    if (variant == "mla-decoupled" || variant == "mtla") {
        const Dense down = weight(layer, "kv_a_proj_with_mqa", d);
        const Dense up = gained(layer, "kv_a_layernorm", weight(layer, "kv_b_proj", a.kv_rank));
        const Dense content = normed(
            layer, "k_norm",
            columns_of(down, 0, a.kv_rank) * columns_of(up, head * (a.nope_dim + a.v_dim), a.nope_dim));
        const Dense rope = normed(layer, "k_rope_norm", columns_of(down, a.kv_rank, a.rope_dim));
        return part == "_content" ? content : part == "_rope" ? rope : beside(content, rope);
    }
    if (variant == "mla-prerope" && a.prerope_site == PreropeSite::kInput) {
        const Dense up = weight(layer, "k_b_proj", a.kv_rank);
        return weight(layer, "kv_a_proj", d) *
               columns_of(norm ? gained(layer, "kv_a_layernorm", up) : up, head * width, width);
    }
    if (variant == "mla-prerope") {
        const Dense up = weight(layer, "k_b_proj", a.k_rank);
        return normed(layer, "k_norm", weight(layer, "k_proj", d)) *
               weight(layer, "k_a_proj", config_.model.heads * width) *
               columns_of(norm ? gained(layer, "k_a_layernorm", up) : up, head * width, width);
    }
    const int64_t per_group = config_.model.heads / config_.model.kv_heads;
    return normed(layer, "k_norm", columns_of(weight(layer, "k_proj", d), head / per_group * width, width));
}

namespace {
/// Rotates every row of x, from column `first` on in blocks of `width`, to a position.
Dense rotated(Dense x, int64_t first, int64_t width, int64_t position, double base) {
    for (int64_t row = 0; row < x.rows; ++row)
        for (int64_t block = first; width > 0 && block < x.columns; block += width)
            for (int64_t i = 0; i < width / 2; ++i) {
                const double angle = static_cast<double>(position) *
                                     std::pow(base, -2 * static_cast<double>(i) / static_cast<double>(width));
                double &a = x.at(row, block + i), &b = x.at(row, block + i + width / 2);
                const double first_of_pair = a;
                a = a * std::cos(angle) - b * std::sin(angle);
                b = b * std::cos(angle) + first_of_pair * std::sin(angle);
            }
    return x;
}
}  // namespace

bool DenseWeights::has(int64_t layer, const std::string& name) const {
    return weights_.contains(fmt::format("model.layers.{}.self_attn.{}.weight", layer, name));
}

Dense DenseWeights::at_positions(int64_t layer, int64_t head, int64_t i, int64_t j) const {
    const AttentionConfig& a = config_.attention;
    const int64_t d = config_.model.d_model, rope = variant_of(config_).rope_width(config_);
    const double base = config_.model.rope_theta;
    const Dense q = query("", layer, head);
    const Dense rotated_q = rotated(q, q.columns - rope, rope, i, base);
    if (name_of(config_.attention.variant) != std::string("mla-prerope")) {
        const Dense k = key("", layer, head);
        return rotated_q * rotated(k, k.columns - rope, rope, j, base).transposed();
    }
    const bool input = a.prerope_site == PreropeSite::kInput;
    const int64_t inner = config_.model.heads * rope;
    const std::string norm = input ? "kv_a_layernorm" : "k_a_layernorm";
    const Dense up = weight(layer, "k_b_proj", input ? a.kv_rank : a.k_rank);
    const Dense mine = columns_of(a.latent_norm ? gained(layer, norm, up) : up, head * rope, rope);
    // x^T R^T W is (R x)^T W.
    const Dense down =
        input ? rotated(weight(layer, "kv_a_proj", d).transposed(), 0, rope, -j, base).transposed()
              : rotated(normed(layer, "k_norm", weight(layer, "k_proj", d)), 0, rope, j, base) *
                    weight(layer, "k_a_proj", inner);
    return rotated_q * (down * mine).transposed();
}

Dense DenseWeights::ov(int64_t layer, int64_t head) const {
    const int64_t d = config_.model.d_model, heads = config_.model.heads,
                  v = variant_of(config_).core_widths(config_).v;
    const AttentionConfig& a = config_.attention;
    const Dense out = weight(layer, "o_proj", heads * v).row_slice(head * v, v);
    if (has(layer, "v_proj")) {
        const Dense values = weight(layer, "v_proj", d);
        return columns_of(values, head * (values.columns / v) / heads * v, v) * out;
    }
    if (has(layer, "kv_b_proj")) {
        const Dense up = gained(layer, "kv_a_layernorm", weight(layer, "kv_b_proj", a.kv_rank));
        return columns_of(weight(layer, "kv_a_proj_with_mqa", d), 0, a.kv_rank) *
               columns_of(up, (head + 1) * (up.columns / heads) - v, v) * out;
    }
    const bool input = a.prerope_site == PreropeSite::kInput;
    const Dense up = weight(layer, "v_b_proj", input ? a.kv_rank : a.v_rank);
    return weight(layer, input ? "kv_a_proj" : "v_a_proj", d) *
           columns_of(a.latent_norm ? gained(layer, input ? "kv_a_layernorm" : "v_a_layernorm", up) : up,
                      head * v, v) *
           out;
}

Dense DenseWeights::matrix(const std::string& name, int64_t layer, int64_t head) const {
    const int64_t heads = config_.model.heads;
    if (name == "qk_literal") {
        if (head >= 0) return query("", layer, head).transposed() * key("", layer, head);
        Dense queries = query("", layer, 0), keys = key("", layer, 0);
        const int64_t step = heads / config_.model.kv_heads;
        for (int64_t h = 1; h < heads; ++h) queries = beside(queries, query("", layer, h));
        for (int64_t h = step; h < heads; h += step) keys = beside(keys, key("", layer, h));
        return queries.transposed() * keys;
    }
    if (name == "ov") {
        if (head >= 0) return ov(layer, head);
        Dense sum;
        for (int64_t h = 0; h < heads; ++h) sum = sum + ov(layer, h);
        return sum;
    }
    if (const size_t at = name.find('@'); at != std::string::npos)
        return at_positions(layer, head, std::stoll(name.substr(at + 1)),
                            std::stoll(name.substr(name.find(',') + 1)));
    const std::string part = name.substr(2);
    if (head >= 0) return query(part, layer, head) * key(part, layer, head).transposed();
    Dense sum;
    for (int64_t h = 0; h < heads; ++h) sum = sum + query(part, layer, h) * key(part, layer, h).transposed();
    return sum;
}

}  // namespace pastur::test
