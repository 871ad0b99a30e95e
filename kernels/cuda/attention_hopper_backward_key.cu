// Attention backward on Hopper, stationary in the keys: dk and dv.
#include "kernels/cuda/attention_hopper_backward_key.cuh"
#include "kernels/cuda/attention_hopper_maps.cuh"

namespace pastur {
namespace {

template <typename Widths>
struct KeyTiles {
    static constexpr int kQueries = 64;
    using Type =
        BackwardTiles<typename Widths::template Key<kRows>, typename Widths::template Value<kRows>,
                      typename Widths::template Query<kQueries>, typename Widths::template Value<kQueries>,
                      kQueries* static_cast<int>(sizeof(float2)), 3>;
};

#if defined(PASTUR_HOPPER)

template <typename Tiles>
__device__ __forceinline__ KeyTile<Tiles> key_tile(const HopperBackwardParams& p, int index) {
    int pair, rank;
    p.order.at(index, pair, rank);
    return {p.attention.sizes, pair, rank};
}

template <typename Tiles>
__device__ __forceinline__ void produce(const HopperBackwardParams& p, const BackwardShared<Tiles>& shared) {
    Ring<Tiles::kStages> ring;
    int rows_parity = 1;
    for (int index = blockIdx.x; index < p.order.total(); index += gridDim.x, rows_parity ^= 1) {
        const auto tile = key_tile<Tiles>(p, index);
        mbarrier_sleep(shared.rows_empty[0], rows_parity);
        copy_keys(p, shared, tile, shared.rows_full[0]);
        produce_queries(p, shared, tile, ring);
    }
}

/// `row`: the warp's first key.
template <typename Widths, typename Tiles>
__device__ __forceinline__ void key_gradients(BackwardConsumer<Tiles>& consumer,
                                              const HopperBackwardParams& p, const KeyTile<Tiles>& tile,
                                              int row) {
    constexpr int kTiles = Tiles::kCols / 8;
    const AttentionSizes& sizes = p.attention.sizes;
    const int lane = consumer.lane;
    const float c = p.attention.scale * kLog2E;
    float s[kTiles][4], dp[kTiles][4], dk[Widths::kQk / 8][4], dv[Widths::kV / 8][4];
    uint32_t prob[kTiles / 2][4], ds[kTiles / 2][4];
    const int first = (tile.first + consumer.group * kGroupRows) / Tiles::kCols;  // tile of queries
    const int skipped = min(first - tile.first_step, tile.steps_of_head);
    clear(dk);
    clear(dv);
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
            to_fragments(prob, s);
            products_wait<0>();
            products_done(dp);
            score_gradients_by_key(dp, s, stats);
            to_fragments(ds, dp);
            consumer.turns.wait();
            products_begin();
            product_by_columns<typename Tiles::ColsV, Tiles::kCols / 16>(
                dv, prob, consumer.shared.cols_v(consumer.done.stage), true);
            product_by_columns<typename Tiles::ColsQk, Tiles::kCols / 16>(
                dk, ds, consumer.shared.cols_qk(consumer.done.stage), true);
            products_commit();
            if (step + 1 == steps) break;
            static_assert(run_ahead(Widths::kQk + Widths::kV, Tiles::kCols, 2));
            consumer.products(s, dp);
            consumer.turns.pass();
        }
        consumer.turns.pass();
        products_wait<0>();
        products_done(dk);
        products_done(dv);
        consumer.release_stage();
    }
    release(consumer.shared.rows_empty[0]);
    const SharedAddress out = consumer.shared.out(consumer.group * 4 + consumer.warp);
    if (p.attention.rope_table)
        rotate_rows_back<Widths::kRotaryPairs>(dk, p.attention.rope_table, row, sizes.tokens, lane);
    store_rows<Tiles::kPitch>(
        token_rows(p.attention.dk, sizes.content, p.attention.dk_shared, sizes.rotary, tile.batch, tile.head),
        dk, p.attention.scale, p.attention.scale, out, row, sizes.tokens, lane);
    store_rows<Tiles::kPitch>(token_rows(p.attention.dv, tile.batch, tile.head, sizes.value), dv, 1, 1, out,
                              row, sizes.tokens, lane);
}

#endif  // PASTUR_HOPPER

/// dk = and dv =, over the queries of every head of the group, heads in order, queries upwards from the
/// diagonal.
template <int kContent, int kShared, int kValue>
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
        if (threadIdx.x == 0) produce(p, shared);
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        BackwardConsumer<Tiles> consumer{shared, warpgroup - 1, static_cast<int>(threadIdx.x) / 32 % 4,
                                         static_cast<int>(threadIdx.x) % 32};
        consumer.turns.start();
        for (int index = blockIdx.x; index < p.order.total(); index += gridDim.x) {
            const auto tile = key_tile<Tiles>(p, index);
            consumer.wait_rows();
            key_gradients<Widths>(consumer, p, tile,
                                  tile.first + consumer.group * kGroupRows + consumer.warp * 16);
        }
    }
#endif
}

}  // namespace

void attention_hopper_key_gradients(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    visit_separate_widths(params.sizes, [&]<int kContent, int kShared, int kValue>() {
        using Widths = HeadWidths<kContent, kShared, kValue>;
        using Tiles = typename KeyTiles<Widths>::Type;
        const AttentionSizes& sizes = params.sizes;
        HopperBackwardParams p{};
        p.attention = params;
        p.padded_tokens = attention_padded_tokens(sizes.tokens);
        query_maps<Widths>(p.maps.q, params.q, sizes, KeyTiles<Widths>::kQueries);
        p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, KeyTiles<Widths>::kQueries);
        key_maps(p.maps.k, params.k, params.k_shared, sizes, kRows);
        p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, kRows);
        p.order = tile_order(sizes, sizes.kv_heads, kRows);
        launch(ctx, persistent_blocks(ctx, p.order), kThreads, Tiles::kSharedBytes,
               attention_hopper_key_kernel<kContent, kShared, kValue>, p);
    });
}

void attention_hopper_backward(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    if (attention_hopper_sums(params.sizes).floats > 0) return attention_hopper_joint_gradients(ctx, params);
    attention_hopper_query_gradient(ctx, params);
    AttentionBackwardParams<bf16> of_keys = params;
    if (!params.rotated_keys) of_keys.rope_table = nullptr;
    attention_hopper_key_gradients(ctx, of_keys);
}

}  // namespace pastur
