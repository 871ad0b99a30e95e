// Attention backward on Hopper, stationary in the keys: dk and dv.
#include "kernels/cuda/attention_hopper_backward.cuh"
#include "kernels/cuda/attention_hopper_maps.cuh"

namespace pastur {
namespace {

template <typename Widths>
struct KeyTiles {
    static constexpr int kQueries = 64;
    using Type =
        BackwardTiles<typename Widths::template Key<kRows>, typename Widths::template Value<kRows>,
                      typename Widths::template Query<kQueries>, typename Widths::template Value<kQueries>,
                      kQueries* static_cast<int>(sizeof(float2)), (Widths::kQk > 128 ? 2 : 3)>;
};

/// One tile of keys and the tiles of queries that see it: for each head of the group, from the diagonal on.
template <typename Tiles>
struct KeyTile {
    int batch, head, first, first_step, steps_of_head, steps;

    __device__ KeyTile(const HopperBackwardParams& p, int index) {
        const AttentionSizes& sizes = p.attention.sizes;
        int pair, rank;
        p.order.at(index, pair, rank);
        batch = pair / sizes.kv_heads;
        head = pair % sizes.kv_heads;
        first = rank * kRows;
        first_step = first / Tiles::kCols;
        steps_of_head = (sizes.tokens + Tiles::kCols - 1) / Tiles::kCols - first_step;
        steps = steps_of_head * sizes.group();
    }
};

#if defined(PASTUR_HOPPER)

template <typename Tiles>
__device__ __forceinline__ void produce_queries(const HopperBackwardParams& p,
                                                const BackwardShared<Tiles>& shared) {
    const AttentionSizes& sizes = p.attention.sizes;
    Ring<Tiles::kStages> ring;
    int rows_parity = 1;
    for (int index = blockIdx.x; index < p.order.total(); index += gridDim.x, rows_parity ^= 1) {
        const KeyTile<Tiles> tile(p, index);
        mbarrier_sleep(shared.rows_empty[0], rows_parity);
        mbarrier_expect(shared.rows_full[0], Tiles::kStationaryBytes);
        copy_rows<typename Tiles::RowsQk>(shared.rows_qk(), p.maps.k, shared.rows_full[0], tile.first,
                                          tile.head, 0, tile.batch);
        copy_rows<typename Tiles::RowsV>(shared.rows_v(), p.maps.v, shared.rows_full[0], tile.first,
                                         tile.head, 0, tile.batch);
        for (int step = 0; step < tile.steps; ++step, ring.advance()) {
            const int head = tile.head * sizes.group() + step / tile.steps_of_head;
            const int query = (tile.first_step + step % tile.steps_of_head) * Tiles::kCols;
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

/// s = S^T becomes P^T. Queries more than `behind` columns before the thread's first key have P = 0.
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

/// `row`: the warp's first key. kKeys, kValues: which gradients; heads too wide for both sets of accumulators
/// take two launches.
template <typename Widths, bool kKeys, bool kValues, typename Tiles>
__device__ __forceinline__ void key_gradients(BackwardConsumer<Tiles>& consumer,
                                              const HopperBackwardParams& p, const KeyTile<Tiles>& tile,
                                              int row) {
    constexpr int kTiles = Tiles::kCols / 8;
    const AttentionSizes& sizes = p.attention.sizes;
    const int lane = consumer.lane;
    const float c = p.attention.scale * kLog2E;
    float s[kTiles][4], dp[kTiles][4], dk[kKeys ? Widths::kQk / 8 : 1][4],
        dv[kValues ? Widths::kV / 8 : 1][4];
    uint32_t prob[kTiles / 2][4], ds[kTiles / 2][4];
    const int first = (tile.first + consumer.group * kGroupRows) / Tiles::kCols;  // tile of queries
    const int skipped = min(first - tile.first_step, tile.steps_of_head);
    if constexpr (kKeys) clear(dk);
    if constexpr (kValues) clear(dv);
    for (int head = 0; head < sizes.group(); ++head) {
        consumer.skip(skipped);
        const int steps = tile.steps_of_head - skipped;
        if (steps == 0) {
            consumer.turns.sit_out();
            continue;
        }
        consumer.turns.wait();
        consumer.products(s, dp);
        consumer.turns.pass();
        for (int step = 0;; ++step) {
            const int query = (first + step) * Tiles::kCols;
            products_wait<1>();
            products_done(s);
            if (step > 0) consumer.release_stage();
            const SharedAddress stats = consumer.shared.stats(consumer.done.stage) + lane % 4 * 16;
            probabilities_of_keys(s, stats, c, step == 0, query + lane % 4 * 2 - (row + lane / 4));
            if constexpr (kValues) to_fragments(prob, s);
            products_wait<0>();
            products_done(dp);
            if constexpr (kKeys) {
                score_gradients_by_key(dp, s, stats);
                to_fragments(ds, dp);
            }
            consumer.turns.wait();
            products_begin();
            if constexpr (kValues)
                product_by_columns<typename Tiles::ColsV, Tiles::kCols / 16>(
                    dv, prob, consumer.shared.cols_v(consumer.done.stage), true);
            if constexpr (kKeys)
                product_by_columns<typename Tiles::ColsQk, Tiles::kCols / 16>(
                    dk, ds, consumer.shared.cols_qk(consumer.done.stage), true);
            products_commit();
            if (step + 1 == steps) break;
            if constexpr (!run_ahead((kKeys ? Widths::kQk : 0) + (kValues ? Widths::kV : 0), Tiles::kCols,
                                     kKeys + kValues))
                products_wait<0>();
            consumer.products(s, dp);
            consumer.turns.pass();
        }
        consumer.turns.pass();
        products_wait<0>();
        if constexpr (kKeys) products_done(dk);
        if constexpr (kValues) products_done(dv);
        consumer.release_stage();
    }
    release(consumer.shared.rows_empty[0]);
    const SharedAddress out = consumer.shared.out(consumer.group * 4 + consumer.warp);
    if constexpr (kKeys) {
        if (p.attention.rope_table)
            rotate_rows_back<Widths::kRotaryTile, Widths::kRotaryPairs>(dk, p.attention.rope_table, row,
                                                                        sizes.tokens, lane);
        store_rows<Tiles::kPitch>(token_rows(p.attention.dk, sizes.content, p.attention.dk_shared,
                                             sizes.rotary, tile.batch, tile.head),
                                  dk, p.attention.scale, p.attention.scale, out, row, sizes.tokens, lane);
    }
    if constexpr (kValues)
        store_rows<Tiles::kPitch>(token_rows(p.attention.dv, tile.batch, tile.head, sizes.value), dv, 1, 1,
                                  out, row, sizes.tokens, lane);
}

#endif  // PASTUR_HOPPER

/// dk = and dv =, over the queries of every head of the group, heads in order, queries upwards from the
/// diagonal.
template <int kContent, int kShared, int kValue, bool kKeys, bool kValues>
__global__ void __launch_bounds__(kThreads, 1)
    attention_hopper_key_kernel(const __grid_constant__ HopperBackwardParams p) {
#if defined(PASTUR_HOPPER)
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = typename KeyTiles<Widths>::Type;
    const BackwardShared<Tiles> shared;
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    start_barriers(shared);
    if (warpgroup == 0) {
        give_registers<Registers<kConsumers>::kProducer>();
        if (threadIdx.x == 0) produce_queries<Tiles>(p, shared);
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        BackwardConsumer<Tiles> consumer{shared, warpgroup - 1, static_cast<int>(threadIdx.x) / 32 % 4,
                                         static_cast<int>(threadIdx.x) % 32};
        consumer.turns.start();
        for (int index = blockIdx.x; index < p.order.total(); index += gridDim.x) {
            const KeyTile<Tiles> tile(p, index);
            consumer.wait_rows();
            key_gradients<Widths, kKeys, kValues>(
                consumer, p, tile, tile.first + consumer.group * kGroupRows + consumer.warp * 16);
        }
    }
#endif
}
template <int kContent, int kShared, int kValue, bool kKeys, bool kValues>
void launch_key_kernel(CudaContext& ctx, const HopperBackwardParams& p) {
    using Tiles = typename KeyTiles<HeadWidths<kContent, kShared, kValue>>::Type;
    launch(ctx, persistent_blocks(ctx, p.order), kThreads, Tiles::kSharedBytes,
           attention_hopper_key_kernel<kContent, kShared, kValue, kKeys, kValues>, p);
}

}  // namespace

void attention_hopper_key_gradients(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    visit_hopper_widths(params.sizes, [&]<int kContent, int kShared, int kValue>() {
        using Widths = HeadWidths<kContent, kShared, kValue>;
        const AttentionSizes& sizes = params.sizes;
        HopperBackwardParams p{};
        p.attention = params;
        p.padded_tokens = attention_padded_tokens(sizes.tokens);
        query_maps<Widths>(p.maps.q, params.q, sizes, KeyTiles<Widths>::kQueries);
        p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, KeyTiles<Widths>::kQueries);
        key_maps(p.maps.k, params.k, params.k_shared, sizes, kRows);
        p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, kRows);
        p.order = tile_order(sizes, sizes.kv_heads, kRows);
        if constexpr (Widths::kQk <= 128) {
            launch_key_kernel<kContent, kShared, kValue, true, true>(ctx, p);
        } else {
            launch_key_kernel<kContent, kShared, kValue, true, false>(ctx, p);
            launch_key_kernel<kContent, kShared, kValue, false, true>(ctx, p);
        }
    });
}

void attention_hopper_backward(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    attention_hopper_query_gradient(ctx, params);
    AttentionBackwardParams<bf16> of_keys = params;
    if (!params.rotated_keys) of_keys.rope_table = nullptr;
    attention_hopper_key_gradients(ctx, of_keys);
}

}  // namespace pastur
