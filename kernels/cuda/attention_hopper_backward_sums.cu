// What goes before and after attention backward in one kernel (attention_hopper_backward_joint.cuh).
#include "kernels/cuda/attention_hopper_backward_joint.cuh"

namespace pastur {
namespace {

/// Tokens from which heads of 64 columns take these kernels.
constexpr int kJointFrom = 2048;

/// Tile of 8 columns of dq that is the `tile`-th of a group's piece.
template <typename Widths>
constexpr int column_tile(int group, int tile) {
    constexpr int kWhole = Widths::kQk / 128 * 8;  // tiles of whole parts
    return tile < kWhole ? group * (Widths::kQk / 8 - kWhole) + tile : kWhole + group * 4 + (tile - kWhole);
}

/// row_stats =, and no block has had its turn yet. A block of threads for 64 queries of a head.
template <int kValue>
__global__ void __launch_bounds__(kWarpgroup)
    attention_hopper_stats_kernel(const __grid_constant__ HopperBackwardParams p) {
#if defined(PASTUR_HOPPER)
    const BlockPosition at(false);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    float2 stats[2];
    row_stats<kValue>(stats, p, at.batch, at.head, at.tile * kGroupRows + warp * 16, lane);
    if (threadIdx.x < kConsumers) {
        const int group = static_cast<int>(threadIdx.x);
        p.attention.dq_turns[piece_index(p, at.batch, at.head, at.tile, group)] = 0;
    }
    if (threadIdx.x == 0 && at.batch + at.head + at.tile == 0) *p.attention.dq_next = 0;
#endif
}

/// dq = from its sums: scaled, rotated back, rounded. A block of threads for 64 queries of a head.
template <int kContent, int kShared, int kValue>
__global__ void __launch_bounds__(kWarpgroup)
    attention_hopper_round_kernel(const __grid_constant__ HopperBackwardParams p) {
#if defined(PASTUR_HOPPER)
    using Widths = HeadWidths<kContent, kShared, kValue>;
    constexpr int kPieceTiles = JointTiles<Widths>::kPieceColumns / 8;
    const AttentionSizes& sizes = p.attention.sizes;
    const BlockPosition at(false);
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    const int row = at.tile * kGroupRows + thread / 32 * 16;
    const int64_t piece = piece_index(p, at.batch, at.head, at.tile, 0);
    const auto* sums =
        reinterpret_cast<const float4*>(p.attention.dq_sums) + piece * kPieceTiles * kWarpgroup + thread;
    float dq[Widths::kQk / 8][4];
    unrolled<kConsumers * kPieceTiles>([&]<int kIndex>() {
        constexpr int kTile = column_tile<Widths>(kIndex / kPieceTiles, kIndex % kPieceTiles);
        const float4 x = sums[kIndex * kWarpgroup];
        dq[kTile][0] = x.x, dq[kTile][1] = x.y, dq[kTile][2] = x.z, dq[kTile][3] = x.w;
    });
    if (p.attention.rope_table)
        rotate_rows_back<Widths::kRotaryTile, Widths::kRotaryPairs>(dq, p.attention.rope_table, row,
                                                                    sizes.tokens, lane);
    store_block(token_rows(p.attention.dq, at.batch, at.head, sizes.query_key()), dq, p.attention.scale,
                p.attention.scale, row, sizes.tokens, lane);
#endif
}

dim3 tiles_of_queries(const AttentionSizes& sizes) {
    return attention_grid(sizes, sizes.heads, kGroupRows);
}

}  // namespace

AttentionSums attention_hopper_sums(const AttentionSizes& sizes) {
    // With 64 columns five products are no faster where the sums weigh as much as the two that they save. At
    // 96, halves of the columns would not be whole parts.
    const bool joint = sizes.query_key() % 64 == 0 && (sizes.query_key() > 64 || sizes.tokens >= kJointFrom);
    if (!joint) return {0, 0};
    const int64_t tiles =
        int64_t{sizes.batch} * sizes.heads * (attention_padded_tokens(sizes.tokens) / kGroupRows);
    return {tiles * kGroupRows * sizes.query_key(), tiles * kConsumers};
}

void attention_hopper_begin_sums(CudaContext& ctx, const HopperBackwardParams& p) {
    visit_joint_widths(p.attention.sizes, [&]<int, int, int kValue>() {
        launch(ctx, tiles_of_queries(p.attention.sizes), kWarpgroup, 0, attention_hopper_stats_kernel<kValue>,
               p);
    });
}

void attention_hopper_round_sums(CudaContext& ctx, const HopperBackwardParams& p) {
    visit_joint_widths(p.attention.sizes, [&]<int kContent, int kShared, int kValue>() {
        launch(ctx, tiles_of_queries(p.attention.sizes), kWarpgroup, 0,
               attention_hopper_round_kernel<kContent, kShared, kValue>, p);
    });
}

}  // namespace pastur
