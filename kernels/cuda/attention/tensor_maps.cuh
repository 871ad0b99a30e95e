#pragma once
// TMA tensor maps of inputs and gradients: (column, token, head, sequence).
#include <algorithm>

#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/tensor_map.h"

namespace pastur::attention {

/// Maps of the inputs. A query or a key has two parts; the second is unused where a row has one address.
struct TensorMaps {
    CUtensorMap q[2], k[2], v[1], dout[1];
};

/// [B, tokens, heads, width] in boxes of box_rows tokens and box_columns columns. Throws (kOther).
inline CUtensorMap head_map(const HeadView<const bf16>& view, int width, const Sizes& sizes, int heads,
                            int box_rows, int box_columns) {
    return pastur::tensor_map(
        {view.data, width, sizes.tokens, view.token, heads, view.head, sizes.batch, view.batch}, box_rows,
        box_columns);
}

inline int box_columns(int width) {
    return std::min(width, 64);
}

/// Maps of the parts that HeadWidths::Query has.
template <typename Widths>
void query_maps(CUtensorMap (&maps)[2], const HeadView<const bf16>& q, const Sizes& sizes, int rows) {
    const int first = Widths::kSplitQuery ? sizes.content : sizes.query_key();
    maps[0] = head_map(q, first, sizes, sizes.heads, rows, box_columns(first));
    maps[1] = maps[0];
    if (Widths::kSplitQuery && sizes.rotary > 0) {
        HeadView<const bf16> second = q;
        second.data += sizes.content;
        maps[1] = head_map(second, sizes.rotary, sizes, sizes.heads, rows, box_columns(sizes.rotary));
    }
}

inline void key_maps(CUtensorMap (&maps)[2], const HeadView<const bf16>& k,
                     const HeadView<const bf16>& k_shared, const Sizes& sizes, int rows) {
    maps[0] = head_map(k, sizes.content, sizes, sizes.kv_heads, rows, box_columns(sizes.content));
    maps[1] = sizes.rotary == 0 ? maps[0]
                                : head_map(k_shared, sizes.rotary, sizes, 1, rows, box_columns(sizes.rotary));
}

/// Map of values, of the output or of its gradient.
inline CUtensorMap value_map(const HeadView<const bf16>& v, const Sizes& sizes, int heads, int rows) {
    return head_map(v, sizes.value, sizes, heads, rows, box_columns(sizes.value));
}

inline HeadView<const bf16> read_only(const HeadView<bf16>& view) {
    return {view.data, view.batch, view.token, view.head};
}
/// Map of gradients that warps store, 16 tokens at a time.
inline CUtensorMap gradient_map(const HeadView<bf16>& view, int width, const Sizes& sizes, int heads) {
    return head_map(read_only(view), width, sizes, heads, 16, box_columns(width));
}

}  // namespace pastur::attention
