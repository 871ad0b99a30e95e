#pragma once
// What the kernels of attention backward that are stationary in the keys share.
#include "kernels/cuda/attention_hopper_backward.cuh"

namespace pastur {

/// One tile of keys and the tiles of queries that see it: for each head of the group, from the diagonal on.
template <typename Tiles>
struct KeyTile {
    int batch, head, first, first_step, steps_of_head, steps;

    __device__ KeyTile(const AttentionSizes& sizes, int pair, int index) {
        batch = pair / sizes.kv_heads;
        head = pair % sizes.kv_heads;
        first = index * kRows;
        first_step = first / Tiles::kCols;
        steps_of_head = (sizes.tokens + Tiles::kCols - 1) / Tiles::kCols - first_step;
        steps = steps_of_head * sizes.group();
    }
    /// Of a step: the head, and the tile of queries.
    __device__ int head_at(const AttentionSizes& sizes, int step) const {
        return head * sizes.group() + step / steps_of_head;
    }
    __device__ int queries_at(int step) const { return first_step + step % steps_of_head; }
};

#if defined(PASTUR_HOPPER)

/// Producer: starts the copies of a tile's keys and values to shared.rows, which the caller knows to be free.
template <typename Tiles>
__device__ __forceinline__ void copy_keys(const HopperBackwardParams& p, const BackwardShared<Tiles>& shared,
                                          const KeyTile<Tiles>& tile, SharedAddress full) {
    mbarrier_expect(full, Tiles::kStationaryBytes);
    copy_rows<typename Tiles::RowsQk>(shared.rows_qk(), p.maps.k, full, tile.first, tile.head, 0, tile.batch);
    copy_rows<typename Tiles::RowsV>(shared.rows_v(), p.maps.v, full, tile.first, tile.head, 0, tile.batch);
}

/// Producer: copies the queries of all its steps into the ring, with dout and row_stats.
template <typename Tiles>
__device__ __forceinline__ void produce_queries(const HopperBackwardParams& p,
                                                const BackwardShared<Tiles>& shared,
                                                const KeyTile<Tiles>& tile, Ring<Tiles::kStages>& ring) {
    const AttentionSizes& sizes = p.attention.sizes;
    for (int step = 0; step < tile.steps; ++step, ring.advance()) {
        const int head = tile.head_at(sizes, step), query = tile.queries_at(step) * Tiles::kCols;
        const SharedAddress full = shared.full[ring.stage];
        mbarrier_sleep(shared.empty[ring.stage], ring.parity ^ 1);
        mbarrier_expect(full, Tiles::kMovingBytes + Tiles::kStatsBytes);
        copy_rows<typename Tiles::ColsQk>(shared.cols_qk(ring.stage), p.maps.q, full, query, head, head,
                                          tile.batch);
        copy_rows<typename Tiles::ColsV>(shared.cols_v(ring.stage), p.maps.dout, full, query, head, 0,
                                         tile.batch);
        const int64_t pair = static_cast<int64_t>(tile.batch) * sizes.heads + head;
        copy_bytes(shared.stats(ring.stage), p.attention.row_stats + pair * p.padded_tokens + query,
                   Tiles::kStatsBytes, full);
    }
}

/// dp = dP^T becomes dS^T = P^T (dP^T - delta); a thread's rows are keys, delta belongs to columns.
template <int kTiles>
__device__ __forceinline__ void score_gradients_by_key(float (&dp)[kTiles][4], const float (&s)[kTiles][4],
                                                       SharedAddress stats) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
        const float4 pair = load_shared_16(stats + n * 8 * static_cast<int>(sizeof(float2)));
#pragma unroll
        for (int i = 0; i < 4; ++i) dp[n][i] = s[n][i] * (dp[n][i] - (i % 2 == 0 ? pair.y : pair.w));
    }
}

/// s = S^T becomes P^T. Queries more than `ahead` columns before the thread's first key have P = 0.
template <int kTiles>
__device__ __forceinline__ void probabilities_of_keys(float (&s)[kTiles][4], SharedAddress stats, float c,
                                                      bool mask, int ahead) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
        const float4 pair = load_shared_16(stats + n * 8 * static_cast<int>(sizeof(float2)));
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = exp2_approximate(s[n][i] * c - (i % 2 == 0 ? pair.x : pair.z));
    }
    if (!mask) return;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i / 2 * 8 - n * 8 - i % 2 > ahead) s[n][i] = 0;
        }
    }
}

/// dS^T of a warp's 16 keys, as SwizzledRows has it.
template <int kFragments>
__device__ __forceinline__ void store_scores(SharedAddress scores, const uint32_t (&ds)[kFragments][4],
                                             int row, int lane) {
    constexpr int kRowBytes = kFragments * 32;
    const SharedAddress line = scores + (row + lane / 8 % 2 * 8 + lane % 8) * kRowBytes;
#pragma unroll
    for (int k = 0; k < kFragments; ++k)
        store_matrices(line + swizzled<kRowBytes>(lane % 8, 2 * k + lane / 16) * 16, ds[k]);
}

/// kTiles tiles of a warp's accumulators, times `factor`, to its 16 rows of SwizzledRows, where tensor copies
/// take them from.
template <int kFirst, int kTiles, int kAll>
__device__ __forceinline__ void put_rows(SharedAddress rows, const float (&acc)[kAll][4], float factor,
                                         int row, int lane) {
    uint32_t rounded[kTiles / 2][4];
#pragma unroll
    for (int k = 0; k < kTiles / 2; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float(&pair)[4] = acc[kFirst + 2 * k + i / 2];
            rounded[k][i] = pack_bf16(pair[i % 2 * 2] * factor, pair[i % 2 * 2 + 1] * factor);
        }
    }
    store_scores(rows, rounded, row, lane);
}

#endif  // PASTUR_HOPPER

}  // namespace pastur
