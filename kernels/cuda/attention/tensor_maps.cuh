#pragma once
// Host side of the Hopper attention kernels: what the copy engine needs to know of each input, and the order
// of the tiles.
#include <algorithm>

#include "kernels/cuda/attention/wgmma_tiles.cuh"

namespace pastur::attention {

inline int box_columns(int width) {
    return std::min(width, 64);
}

/// The parts of the queries that SwizzledRows<..., content, shared> has.
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

/// Of values, or of the output's gradient.
inline CUtensorMap value_map(const HeadView<const bf16>& v, const Sizes& sizes, int heads, int rows) {
    return head_map(v, sizes.value, sizes, heads, rows, box_columns(sizes.value));
}

inline HeadView<const bf16> read_only(const HeadView<bf16>& view) {
    return {view.data, view.batch, view.token, view.head};
}
/// Of gradients that warps write, 16 tokens at a time.
inline CUtensorMap gradient_map(const HeadView<bf16>& view, int width, const Sizes& sizes, int heads) {
    return head_map(read_only(view), width, sizes, heads, 16, box_columns(width));
}

/// `heads` a sequence, in tiles of `rows`; a group's moving rows take at most `cached` bytes of L2's 50 MB.
inline TileOrder tile_order(const Sizes& sizes, int heads, int rows, int64_t cached = int64_t{32} << 20) {
    const int64_t bytes = int64_t{sizes.tokens} * (sizes.query_key() + sizes.value) * 2;
    const int pairs = sizes.batch * heads, tiles = static_cast<int>(ceil_div(sizes.tokens, rows));
    return {pairs, tiles, static_cast<int>(std::clamp<int64_t>(cached / bytes, 1, pairs)), tiles * rows};
}

inline unsigned persistent_blocks(CudaContext& ctx, const TileOrder& order) {
    return static_cast<unsigned>(std::min(ctx.handles().properties.multiProcessorCount, order.total()));
}

}  // namespace pastur::attention
