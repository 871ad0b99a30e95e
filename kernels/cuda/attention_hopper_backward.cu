// Causal attention backward on Hopper: wgmma, tensor copies, a producing warpgroup.
//
// As on sm_80 (attention_sm80_backward.cu) in two kernels, one stationary in the queries (dq), one in the
// keys (dk, dv). S and dP are computed twice, seven products instead of five; in exchange nothing that is
// multiplied leaves the registers, no warpgroup waits for another and every sum has one fixed order.
#include "kernels/cuda/attention_hopper.cuh"
#include "kernels/cuda/attention_hopper_maps.cuh"

namespace pastur {
namespace {

constexpr int kConsumers = 2;
constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
constexpr int kRows = kConsumers * kGroupRows;

/// A block's stationary pair of tiles, of queries and dout or of keys and values, and the stages of the
/// moving pair, of kCols rows.
template <typename StationaryQk, typename StationaryV, typename MovingQk, typename MovingV, int kStatsBytes_,
          int kStages_>
struct BackwardTiles {
    using RowsQk = StationaryQk;
    using RowsV = StationaryV;
    using ColsQk = MovingQk;
    using ColsV = MovingV;
    static constexpr int kStages = kStages_, kStatsBytes = kStatsBytes_;
    static constexpr int kCols = ColsQk::kBytes / ColsQk::kWidth / 2;
    static constexpr int kStationaryBytes = RowsQk::kBytes + RowsV::kBytes;
    static constexpr int kMovingBytes = ColsQk::kBytes + ColsV::kBytes;

    static constexpr int kStagesAt = kStationaryBytes;
    static constexpr int kStatsAt = kStagesAt + kStages * kMovingBytes;
    static constexpr int kPitch =
        std::max(RowsQk::kWidth, RowsV::kWidth) * 2 + 16;  ///< of rows on their way out
    static constexpr int kOutAt = kStatsAt + kStages * kStatsBytes;
    static constexpr int kBarriersAt = kOutAt + kRows * kPitch;
    static constexpr int kSharedBytes = kBarriersAt + (2 + 2 * kStages) * 8 + kSharedAlignment;
};

template <typename Widths>
struct QueryTiles {
    static constexpr int kKeys = Widths::kQk > 64 ? 64 : 128;
    using Type = BackwardTiles<typename Widths::template Query<kRows>, typename Widths::template Value<kRows>,
                               typename Widths::template Key<kKeys>, typename Widths::template Value<kKeys>,
                               0, (Widths::kQk > 128 ? 2 : 3)>;
};

template <typename Widths>
struct KeyTiles {
    static constexpr int kQueries = 64;
    using Type =
        BackwardTiles<typename Widths::template Key<kRows>, typename Widths::template Value<kRows>,
                      typename Widths::template Query<kQueries>, typename Widths::template Value<kQueries>,
                      kQueries* static_cast<int>(sizeof(float2)), (Widths::kQk > 128 ? 2 : 3)>;
};

template <typename Tiles>
struct BackwardShared {
    SharedAddress base = shared_base();
    Barriers rows_full{base + Tiles::kBarriersAt}, rows_empty{rows_full[1]};
    Barriers full{rows_full[2]}, empty{full[Tiles::kStages]};

    __device__ SharedAddress rows_qk() const { return base; }
    __device__ SharedAddress rows_v() const { return base + Tiles::RowsQk::kBytes; }
    __device__ SharedAddress cols_qk(int stage) const {
        return base + Tiles::kStagesAt + stage * Tiles::kMovingBytes;
    }
    __device__ SharedAddress cols_v(int stage) const { return cols_qk(stage) + Tiles::ColsQk::kBytes; }
    __device__ SharedAddress stats(int stage) const {
        return base + Tiles::kStatsAt + stage * Tiles::kStatsBytes;
    }
    /// Where a warp's 16 rows pass through on their way out.
    __device__ SharedAddress out(int warp) const { return base + Tiles::kOutAt + warp * 16 * Tiles::kPitch; }
};

#if defined(PASTUR_HOPPER)

/// Whether the next step's S and dP find registers beside the `operands` of this step's last products and
/// accumulators of so many columns.
constexpr bool run_ahead(int columns, int cols, int operands) {
    return columns / 2 + cols + operands * cols / 4 <= 208;
}

template <typename Tiles>
__device__ __forceinline__ void start_barriers(const BackwardShared<Tiles>& shared) {
    if (threadIdx.x == 0) {
        mbarrier_init(shared.rows_full[0], 1);
        mbarrier_init(shared.rows_empty[0], kConsumers * 4);
        for (int stage = 0; stage < Tiles::kStages; ++stage) {
            mbarrier_init(shared.full[stage], 1);
            mbarrier_init(shared.empty[stage], kConsumers * 4);
        }
        mbarrier_init_done();
    }
    __syncthreads();
}

/// What a consuming warpgroup does at every step, whichever side is stationary: s = A_qk B_qk^T and dp = A_v
/// B_v^T in two groups.
template <typename Tiles>
struct BackwardConsumer {
    const BackwardShared<Tiles>& shared;
    int group, warp, lane;                ///< consumer, warp in it
    Ring<Tiles::kStages> ring{}, done{};  ///< of the next products, and of those not yet released
    int rows_parity = 0;
    Turns<kConsumers> turns{group};

    static constexpr int kTiles = Tiles::kCols / 8;

    __device__ __forceinline__ void products(float (&s)[kTiles][4], float (&dp)[kTiles][4]) {
        mbarrier_sleep(shared.full[ring.stage], ring.parity);
        products_begin();
        product_by_rows<typename Tiles::RowsQk, typename Tiles::ColsQk, Tiles::kCols>(
            s, shared.rows_qk(), group * kGroupRows, shared.cols_qk(ring.stage));
        products_commit();
        product_by_rows<typename Tiles::RowsV, typename Tiles::ColsV, Tiles::kCols>(
            dp, shared.rows_v(), group * kGroupRows, shared.cols_v(ring.stage));
        products_commit();
        ring.advance();
    }
    __device__ __forceinline__ void release_stage() {
        release(shared.empty[done.stage]);
        done.advance();
    }
    /// Passes over steps that only other warpgroups of the block need.
    __device__ __forceinline__ void skip(int steps) {
        for (; steps > 0; --steps) {
            mbarrier_sleep(shared.full[ring.stage], ring.parity);
            ring.advance();
            release_stage();
            turns.sit_out();
        }
    }
    __device__ __forceinline__ void wait_rows() {
        mbarrier_sleep(shared.rows_full[0], rows_parity);
        rows_parity ^= 1;
    }
};

#endif  // PASTUR_HOPPER

/// One tile of queries and how many tiles of keys it sees.
template <typename Tiles>
struct QueryTile {
    int batch, head, first, steps;

    __device__ QueryTile(const HopperBackwardParams& p, int index) {
        int pair, rank;
        p.order.at(index, pair, rank);
        batch = pair / p.attention.sizes.heads;
        head = pair % p.attention.sizes.heads;
        first = (p.order.tiles - 1 - rank) * kRows;
        steps = steps_of(first + kRows, p.attention.sizes.tokens);
    }
    __device__ static int steps_of(int end, int tokens) {
        return (min(end, tokens) + Tiles::kCols - 1) / Tiles::kCols;
    }
};

#if defined(PASTUR_HOPPER)

template <typename Tiles>
__device__ __forceinline__ void produce_keys(const HopperBackwardParams& p,
                                             const BackwardShared<Tiles>& shared) {
    Ring<Tiles::kStages> ring;
    int rows_parity = 1;
    for (int index = blockIdx.x; index < p.order.total(); index += gridDim.x, rows_parity ^= 1) {
        const QueryTile<Tiles> tile(p, index);
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

/// (log2(e) lse, delta = rowsum(dout out)) of this lane's two rows, also left to the other kernel; (infinity,
/// 0) past the last token, so that P is 0 there. dout comes from memory a second time rather than out of its
/// permuted tile.
template <int kV>
__device__ __forceinline__ void row_stats(float2 (&stats)[2], const HopperBackwardParams& p, int batch,
                                          int head, int row, int lane) {
    const int tokens = p.attention.sizes.tokens;
    const int64_t pair = static_cast<int64_t>(batch) * p.attention.sizes.heads + head;
    float sum[2] = {0, 0};
#pragma unroll
    for (int column = 0; column < kV; column += 64) {
        BlockChunks out, dout;
        out.request(token_rows(p.attention.out, batch, head, kV), row, tokens, lane, column);
        dout.request(token_rows(p.attention.dout, batch, head, kV), row, tokens, lane, column);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int i = 0; i < 16; ++i)
                sum[half] += out.chunk[half][i / 8][i % 8] * dout.chunk[half][i / 8][i % 8];
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        sum[half] += __shfl_xor_sync(kAllLanes, sum[half], 1);
        sum[half] += __shfl_xor_sync(kAllLanes, sum[half], 2);
        const int token = row + lane / 4 + half * 8;
        stats[half] = {INFINITY, 0};
        if (token < tokens) stats[half] = {p.attention.lse[pair * tokens + token] * kLog2E, sum[half]};
        if (lane % 4 == 0) p.attention.row_stats[pair * p.padded_tokens + token] = stats[half];
    }
}

template <typename Widths, typename Tiles>
__device__ __forceinline__ void query_gradient(BackwardConsumer<Tiles>& consumer,
                                               const HopperBackwardParams& p, const QueryTile<Tiles>& tile,
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
        if constexpr (!run_ahead(Widths::kQk, Tiles::kCols, 1)) products_wait<0>();
        consumer.products(s, dp);
        consumer.turns.pass();
    }
    consumer.turns.pass();
    products_wait<0>();
    products_done(dq);
    consumer.release_stage();
    release(consumer.shared.rows_empty[0]);
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
            const QueryTile<Tiles> tile(p, index);
            const int row = tile.first + consumer.group * kGroupRows;
            const int steps = row < tokens ? QueryTile<Tiles>::steps_of(row + kGroupRows, tokens) : 0;
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
    if constexpr (kKeys)
        store_rows<Tiles::kPitch>(token_rows(p.attention.dk, sizes.content, p.attention.dk_shared,
                                             sizes.rotary, tile.batch, tile.head),
                                  dk, p.attention.scale, p.attention.scale, out, row, sizes.tokens, lane);
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

bool attention_hopper_supports(CudaContext& ctx, const AttentionSizes& sizes) {
    if (!has_tensor_copies(ctx)) return false;
    size_t needed = 0;
    const bool known = visit_hopper_widths(sizes, [&]<int kContent, int kShared, int kValue>() {
        using Widths = HeadWidths<kContent, kShared, kValue>;
        needed = std::max(QueryTiles<Widths>::Type::kSharedBytes, KeyTiles<Widths>::Type::kSharedBytes);
    });
    return known && needed <= ctx.handles().properties.sharedMemPerBlockOptin;
}

void attention_hopper_backward(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    visit_hopper_widths(params.sizes, [&]<int kContent, int kShared, int kValue>() {
        using Widths = HeadWidths<kContent, kShared, kValue>;
        using OfQueries = typename QueryTiles<Widths>::Type;
        using OfKeys = typename KeyTiles<Widths>::Type;
        const AttentionSizes& sizes = params.sizes;
        HopperBackwardParams p{};
        p.attention = params;
        p.padded_tokens = attention_padded_tokens(sizes.tokens);
        query_maps<Widths>(p.maps.q, params.q, sizes, kRows);
        p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, kRows);
        key_maps<Widths>(p.maps.k, params.k, params.k_shared, sizes, OfQueries::kCols);
        p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, OfQueries::kCols);
        p.order = tile_order(sizes, sizes.heads, kRows);
        launch(ctx, persistent_blocks(ctx, p.order), kThreads, OfQueries::kSharedBytes,
               attention_hopper_query_kernel<kContent, kShared, kValue>, p);

        query_maps<Widths>(p.maps.q, params.q, sizes, OfKeys::kCols);
        p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, OfKeys::kCols);
        key_maps<Widths>(p.maps.k, params.k, params.k_shared, sizes, kRows);
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

}  // namespace pastur
