// Attention backward on Hopper, stationary in the queries: dq.
#include "kernels/cuda/attention_hopper_backward.cuh"
#include "kernels/cuda/attention_hopper_maps.cuh"

namespace pastur {
namespace {

template <typename Widths>
struct QueryTiles {
    static constexpr int kKeys = Widths::kQk > 64 ? 64 : 128;
    using Type =
        BackwardTiles<typename Widths::template Query<kRows>, typename Widths::template Value<kRows>,
                      typename Widths::template Key<kKeys>, typename Widths::template Value<kKeys>, 0, 3>;
};

template <typename Tiles>
using BackwardTile = QueryTile<kRows, Tiles::kCols>;

#if defined(PASTUR_HOPPER)

template <typename Tiles>
__device__ __forceinline__ void produce_keys(const HopperBackwardParams& p,
                                             const BackwardShared<Tiles>& shared) {
    Ring<Tiles::kStages> ring;
    int rows_parity = 1;
    for (int index = blockIdx.x; index < p.order.total(); index += gridDim.x, rows_parity ^= 1) {
        const BackwardTile<Tiles> tile(p.order, p.attention.sizes, index);
        const int kv_head = tile.head / p.attention.sizes.group();
        mbarrier_sleep(shared.rows_empty[0], rows_parity);
        mbarrier_expect(shared.rows_full[0], Tiles::kStationaryBytes);
        copy_rows<typename Tiles::RowsQk>(shared.rows_qk(), p.maps.q, shared.rows_full[0], tile.first,
                                          tile.head, tile.head, tile.batch);
        copy_rows<typename Tiles::RowsV>(shared.rows_v(), p.maps.dout, shared.rows_full[0], tile.first,
                                         tile.head, 0, tile.batch);
        for (int step = 0; step < tile.steps; ++step, ring.advance()) {
            const SharedAddress full = shared.full[ring.stage];
            mbarrier_sleep(shared.empty[ring.stage], ring.parity ^ 1);
            mbarrier_expect(full, Tiles::kMovingBytes);
            copy_rows<typename Tiles::ColsQk>(shared.cols_qk(ring.stage), p.maps.k, full, step * Tiles::kCols,
                                              kv_head, 0, tile.batch);
            copy_rows<typename Tiles::ColsV>(shared.cols_v(ring.stage), p.maps.v, full, step * Tiles::kCols,
                                             kv_head, 0, tile.batch);
        }
    }
}

/// s = S becomes P; a thread's rows are queries. Keys more than `ahead` columns on have P = 0.
template <int kTiles>
__device__ __forceinline__ void probabilities_by_query(float (&s)[kTiles][4], const float2 (&stats)[2],
                                                       float c, bool mask, int ahead) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = exp2_approximate(s[n][i] * c - stats[i / 2].x);
    }
    if (!mask) return;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (n * 8 + i % 2 - i / 2 * 8 > ahead) s[n][i] = 0;
        }
    }
}

template <typename Widths, typename Tiles>
__device__ __forceinline__ void query_gradient(BackwardConsumer<Tiles>& consumer,
                                               const HopperBackwardParams& p, const BackwardTile<Tiles>& tile,
                                               int row, int steps) {
    constexpr int kTiles = Tiles::kCols / 8;
    const AttentionSizes& sizes = p.attention.sizes;
    const int lane = consumer.lane;
    const float c = p.attention.scale * kLog2E;
    float2 stats[2];
    row_stats<Widths::kV>(stats, p, tile.batch, tile.head, row, lane);
    float s[kTiles][4], dp[kTiles][4], dq[Widths::kQk / 8][4];
    uint32_t ds[kTiles / 2][4];
    products_done(dq);
    consumer.turns.wait();
    consumer.products(s, dp);
    consumer.turns.pass();
    for (int step = 0;; ++step) {
        products_wait<1>();
        products_done(s);
        if (step > 0) consumer.release_stage();
        const int key = step * Tiles::kCols;
        probabilities_by_query(s, stats, c, key + Tiles::kCols > row + 1,
                               row + lane / 4 - (key + lane % 4 * 2));
        products_wait<0>();
        products_done(dp);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) dp[n][i] = s[n][i] * (dp[n][i] - stats[i / 2].y);
        }
        to_fragments(ds, dp);
        consumer.turns.wait();
        products_begin();
        product_by_columns<typename Tiles::ColsQk, Tiles::kCols / 16>(
            dq, ds, consumer.shared.cols_qk(consumer.done.stage), step > 0);
        products_commit();
        if (step + 1 == steps) break;
        static_assert(run_ahead(Widths::kQk, Tiles::kCols, 1));
        consumer.products(s, dp);
        consumer.turns.pass();
    }
    consumer.turns.pass();
    products_wait<0>();
    products_done(dq);
    consumer.release_stage();
    release(consumer.shared.rows_empty[0]);
    if (p.attention.rope_table)
        rotate_rows_back<Widths::kRotaryPairs>(dq, p.attention.rope_table, row, sizes.tokens, lane);
    store_rows<Tiles::kPitch>(
        token_rows(p.attention.dq, tile.batch, tile.head, sizes.query_key()), dq, p.attention.scale,
        p.attention.scale, consumer.shared.out(consumer.group * 4 + consumer.warp), row, sizes.tokens, lane);
}

#endif  // PASTUR_HOPPER

/// dq =.
template <int kContent, int kShared, int kValue>
__global__ void __launch_bounds__(kThreads, 1)
    attention_hopper_query_kernel(const __grid_constant__ HopperBackwardParams p) {
#if defined(PASTUR_HOPPER)
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = typename QueryTiles<Widths>::Type;
    const BackwardShared<Tiles> shared;
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    start_barriers(shared);
    if (warpgroup == 0) {
        give_registers<Registers<kConsumers>::kProducer>();
        if (threadIdx.x == 0) produce_keys<Tiles>(p, shared);
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        BackwardConsumer<Tiles> consumer{shared, warpgroup - 1, static_cast<int>(threadIdx.x) / 32 % 4,
                                         static_cast<int>(threadIdx.x) % 32};
        const int tokens = p.attention.sizes.tokens;
        consumer.turns.start();
        for (int index = blockIdx.x; index < p.order.total(); index += gridDim.x) {
            const BackwardTile<Tiles> tile(p.order, p.attention.sizes, index);
            const int row = tile.first + consumer.group * kGroupRows;
            const int steps = row < tokens ? BackwardTile<Tiles>::steps_of(row + kGroupRows, tokens) : 0;
            consumer.wait_rows();
            if (steps > 0)
                query_gradient<Widths>(consumer, p, tile, row + consumer.warp * 16, steps);
            else {
                release(shared.rows_empty[0]);
                consumer.turns.sit_out();
            }
            consumer.skip(tile.steps - steps);
        }
    }
#endif
}

}  // namespace

void attention_hopper_query_gradient(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    visit_separate_widths(params.sizes, [&]<int kContent, int kShared, int kValue>() {
        using Widths = HeadWidths<kContent, kShared, kValue>;
        using Tiles = typename QueryTiles<Widths>::Type;
        const AttentionSizes& sizes = params.sizes;
        HopperBackwardParams p{};
        p.attention = params;
        p.padded_tokens = attention_padded_tokens(sizes.tokens);
        query_maps<Widths>(p.maps.q, params.q, sizes, kRows);
        p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, kRows);
        key_maps(p.maps.k, params.k, params.k_shared, sizes, Tiles::kCols);
        p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, Tiles::kCols);
        p.order = tile_order(sizes, sizes.heads, kRows);
        launch(ctx, persistent_blocks(ctx, p.order), kThreads, Tiles::kSharedBytes,
               attention_hopper_query_kernel<kContent, kShared, kValue>, p);
    });
}

}  // namespace pastur
