#include "engine/train/hugging_face/rope_rows.h"

#include <algorithm>
#include <vector>

#include "engine/model/attention/variants.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// Rows [first, first + count): to neighbours new[2 i] = old[i], new[2 i + 1] = old[i + count / 2], and back.
void reorder(std::span<float> values, int64_t columns, int64_t first, int64_t count, RopeRows to) {
    const auto block =
        values.subspan(static_cast<size_t>(first * columns), static_cast<size_t>(count * columns));
    const std::vector<float> old(block.begin(), block.end());
    for (int64_t row = 0; row < count; ++row) {
        const int64_t half = row % (count / 2), side = row / (count / 2);  // as halves
        const int64_t neighbour = 2 * half + side;
        const int64_t from = to == RopeRows::kNeighbours ? row : neighbour;
        const int64_t into = to == RopeRows::kNeighbours ? neighbour : row;
        std::copy_n(old.begin() + from * columns, columns, block.begin() + into * columns);
    }
}

}  // namespace

void reorder_rotary_rows(const Config& config, const std::string& name, std::span<float> values,
                         RopeRows from, RopeRows to) {
    const AttentionConfig& a = config.attention;
    if (from == to || a.variant != variant_named("mla-decoupled")) return;
    const int64_t head = a.nope_dim + a.rope_dim, heads = config.model.heads;
    const bool queries =
        name.ends_with(".self_attn.q_proj.weight") || name.ends_with(".self_attn.q_b_proj.weight");
    if (!queries && !name.ends_with(".self_attn.kv_a_proj_with_mqa.weight")) return;
    const int64_t rows = queries ? heads * head : a.kv_rank + a.rope_dim;
    const int64_t columns = std::ssize(values) / rows;
    PASTUR_CHECK(rows * columns == std::ssize(values), "{} numbers in {} rows of {}", values.size(), rows,
                 name);
    if (!queries) return reorder(values, columns, a.kv_rank, a.rope_dim, to);
    for (int64_t h = 0; h < heads; ++h) reorder(values, columns, h * head + a.nope_dim, a.rope_dim, to);
}

}  // namespace pastur
