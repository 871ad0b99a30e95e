#include "engine/convert/expansion.h"

#include <algorithm>
#include <string_view>

#include "engine/convert/layer_tensors.h"
#include "engine/model/recipe.h"

namespace pastur::convert {
namespace {

struct Pair {
    const char *from, *to;
};
constexpr Pair kPairs[] = {
    {"mla-decoupled", "mha-shared-rope"}, {"mla-rope", "mha"}, {"mla-nope", "mha-nope"}};

void check_pair(const Config& source, std::string_view to) {
    const std::string_view from = variant_of(source).name;
    for (const Pair& pair : kPairs)
        if (from == pair.from && to == pair.to) return;
    if (from == "mla-decoupled" && to == "mha")
        fail(
            ExitCode::kUsage,
            "--to mha: expected --to mha-shared-rope for a model of \"mla-decoupled\": mha rotates every column of a "
            "key, and {} of this model's {} columns per head are content, which is not rotated",
            source.attention.nope_dim, source.attention.nope_dim + source.attention.rope_dim);
    std::string known;
    for (const Pair& pair : kPairs)
        known += fmt::format("{}{} to {}", known.empty() ? "" : ", ", pair.from, pair.to);
    fail(ExitCode::kUsage,
         "--to {}: expected mha to mla-decoupled, {}: this model is of attention.variant \"{}\"", to, known,
         from);
}

void check_linear(const Config& source, std::string_view to) {
    const AttentionConfig& a = source.attention;
    if (a.latent_norm)
        fail(
            ExitCode::kUsage,
            "--to {}: expected attention.latent_norm = false: a norm between down- and up-projection cannot be "
            "multiplied out",
            to);
    if (to != "mha-shared-rope" && a.v_dim != source.model.head_dim)
        fail(ExitCode::kUsage, "--to {}: expected values as wide as keys: v_dim = {}, head_dim = {}", to,
             a.v_dim, source.model.head_dim);
}

Config expanded_config(const Config& source, Variant to) {
    AttentionConfig a{.variant = to};
    a.qk_norm = source.attention.qk_norm;
    if (to == variant_named("mha-shared-rope")) {
        a.nope_dim = source.attention.nope_dim;
        a.rope_dim = source.attention.rope_dim;
        a.v_dim = source.attention.v_dim;
    }
    return with_attention(source, a);
}

/// The rows of each head from `first` on, `count` of `head`.
Matrix head_rows(const Matrix& up, int64_t heads, int64_t head, int64_t first, int64_t count) {
    Matrix out = zeros(heads * count, up.columns);
    for (int64_t h = 0; h < heads; ++h)
        std::copy_n(row_of(up, h * head + first), count * up.columns, row_of(out, h * count));
    return out;
}

}  // namespace

void check_multiplies_out(const Config& source, Variant to) {
    check_pair(source, name_of(to));
    check_linear(source, name_of(to));
}

ConvertedModel multiply_out(const Config& source, const ReadTensor& read, Variant to) {
    check_multiplies_out(source, to);
    ConvertedModel model{expanded_config(source, to), {}, {}};
    const AttentionConfig& a = source.attention;
    const CoreWidths core = variant_of(source).core_widths(source);
    const int64_t heads = source.model.heads, width = source.model.d_model, content = core.qk - core.shared;
    for (int64_t layer = 0; layer < source.model.layers; ++layer) {
        const std::string prefix = attention_prefix(layer);
        const auto weight = [&](const char* name, int64_t rows, int64_t columns) {
            return to_matrix(read(prefix + name), rows, columns);
        };
        const Matrix down = weight("kv_a_proj_with_mqa.weight", a.kv_rank + core.shared, width);
        const Matrix latent = rows_of(down, 0, a.kv_rank);
        const Matrix up = weight("kv_b_proj.weight", heads * (content + core.v), a.kv_rank);
        const auto put = [&](const char* name, const Matrix& matrix) {
            model.tensors[prefix + name] = to_floats(matrix);
        };
        put("k_proj.weight", dense::multiply(head_rows(up, heads, content + core.v, 0, content), latent));
        put("v_proj.weight",
            dense::multiply(head_rows(up, heads, content + core.v, content, core.v), latent));
        if (core.shared > 0) put("k_rope_proj.weight", rows_of(down, a.kv_rank, core.shared));
        if (a.q_rank > 0)
            put("q_proj.weight", dense::multiply(weight("q_b_proj.weight", heads * core.qk, a.q_rank),
                                                 weight("q_a_proj.weight", a.q_rank, width)));
    }
    return model;
}

}  // namespace pastur::convert
