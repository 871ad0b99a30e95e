#pragma once
// The consumer warpgroups of wgmma/streaming_backward.cu, and what they compute for queries between two key
// tiles: row_stats, and dq from its sums.
#include "kernels/cuda/attention/rotation.cuh"
#include "kernels/cuda/attention/wgmma/streaming_backward.cuh"

namespace pastur::attention::wgmma_streaming {

#if defined(PASTUR_HOPPER)

/// A consumer warpgroup on its way through the ring, and the GEMMs that every step starts with: s = K Q^T and
/// dp = V dout^T, in two groups.
template <typename Tiles>
struct BackwardConsumer {
    const BackwardShared<Tiles>& shared;
    int group, warp, lane;                ///< group: which consumer; warp: in the group
    Ring<Tiles::kStages> ring{}, done{};  ///< stage of the next GEMMs; stage to be released next
    Turns<kConsumers> turns{group};

    static constexpr int kTiles = Tiles::kCols / 8;
    // Keys and values where registers allow it: GEMMs then read half as much shared memory.
    static constexpr bool kKeeps = Tiles::kKeepsRows;
    uint32_t rows_qk[kKeeps ? Tiles::RowsQk::kWidth / 16 : 1][4],
        rows_v[kKeeps ? Tiles::RowsV::kWidth / 16 : 1][4];

    /// Loads a key tile's rows into registers where they are kept.
    __device__ __forceinline__ void keep_rows() {
        if constexpr (kKeeps) {
            const int row = group * kGroupRows + warp * 16 + lane % 16;
            load_fragments<typename Tiles::RowsQk>(rows_qk, shared.rows_qk(), row, lane);
            load_fragments<typename Tiles::RowsV>(rows_v, shared.rows_v(), row, lane);
        }
    }
    __device__ __forceinline__ void products(float (&s)[kTiles][4], float (&dp)[kTiles][4]) {
        scores(s);
        score_gradients(dp);
    }
    /// Queues s = K Q^T of the next stage, once it has arrived.
    __device__ __forceinline__ void scores(float (&s)[kTiles][4]) {
        mbarrier_sleep(shared.full[ring.stage], ring.parity);
        products_begin();
        start<typename Tiles::RowsQk, typename Tiles::ColsQk>(s, rows_qk, shared.rows_qk(),
                                                              shared.cols_qk(ring.stage));
    }
    /// Queues dp = V dout^T of the same stage and goes on to the next.
    __device__ __forceinline__ void score_gradients(float (&dp)[kTiles][4]) {
        start<typename Tiles::RowsV, typename Tiles::ColsV>(dp, rows_v, shared.rows_v(),
                                                            shared.cols_v(ring.stage));
        ring.advance();
    }
    /// Queues acc = this group's rows, from registers or shared memory, times columns.
    template <typename Rows, typename Cols, int kSteps>
    __device__ __forceinline__ void start(float (&acc)[kTiles][4], const uint32_t (&kept)[kSteps][4],
                                          SharedAddress rows, SharedAddress columns) {
        if constexpr (kKeeps)
            product_by_rows<Cols, Tiles::kCols>(acc, kept, columns);
        else
            product_by_rows<Rows, Cols, Tiles::kCols>(acc, rows, group * kGroupRows, columns);
        products_commit();
    }
    __device__ __forceinline__ void release_stage() {
        release(shared.empty[done.stage]);
        done.advance();
    }
    /// The next stage, once it has arrived.
    __device__ __forceinline__ int wait_stage() {
        const int stage = ring.stage;
        mbarrier_sleep(shared.full[stage], ring.parity);
        ring.advance();
        return stage;
    }
    __device__ __forceinline__ void skip_stage() {
        wait_stage();
        release_stage();
    }
};

/// The tile of 8 columns of dq that is the `tile`-th of a group's piece.
template <typename Widths>
constexpr int column_tile(int group, int tile) {
    if (Widths::kQk == 96) return tile < 4 ? group * 8 + tile : 4 + group * 2 + (tile - 4);
    constexpr int kWhole = Widths::kQk / 128 * 8;  // tiles of whole parts
    return tile < kWhole ? group * (Widths::kQk / 8 - kWhole) + tile : kWhole + group * 4 + (tile - kWhole);
}

/// Starts the TMA copy of a warp's rows to memory; one thread. maps: of the segments.
template <typename Rows, int kMaps>
__device__ __forceinline__ void store_rows_of(const CUtensorMap (&maps)[kMaps], SharedAddress from, int token,
                                              int head, int batch) {
    unrolled<Rows::kParts>([&]<int kIndex>() {
        constexpr auto kPart = Rows::part(kIndex);
        store_box(maps[kPart.segment], from + kPart.column * (Rows::kBytes / Rows::kWidth), kPart.within,
                  token, head, batch);
    });
}

/// Waits until the warp's stores so far have read shared memory.
__device__ __forceinline__ void rows_have_left(int lane) {
    if (lane == 0) stores_read<0>();
    __syncwarp();
}

/// dq = of one query tile, from its sums in the next stages: scaled, rotated back, rounded.
template <typename Widths, bool kRotate, typename Tiles>
__device__ __forceinline__ void round_tile(BackwardConsumer<Tiles>& consumer, const BackwardKernelParams& p,
                                           int batch, int head, int tile,
                                           const RowAngles<Widths::kRotaryPairs>& angles) {
    constexpr int kParts = kConsumers / Tiles::kPiecesOfStage, kPieceTiles = Tiles::kPieceColumns / 8;
    const Sizes& sizes = p.attention.sizes;
    const int row = tile * Tiles::kCols + consumer.warp * 16;
    float dq[Widths::kQk / 8][4];
    unrolled<kParts>([&]<int kPart>() __attribute__((always_inline)) {
        const int stage = consumer.wait_stage();
        const SharedAddress from =
            consumer.shared.cols_qk(stage) + static_cast<int>(threadIdx.x) % kWarpgroup * 16;
        unrolled<Tiles::kPiecesOfStage * kPieceTiles>([&]<int kIndex>() __attribute__((always_inline)) {
            constexpr int kGroup = kPart * Tiles::kPiecesOfStage + kIndex / kPieceTiles;
            constexpr int kTile = column_tile<Widths>(kGroup, kIndex % kPieceTiles);
            const float4 x = load_shared_16(from + kIndex * kWarpgroup * 16);
            dq[kTile][0] = x.x, dq[kTile][1] = x.y, dq[kTile][2] = x.z, dq[kTile][3] = x.w;
        });
        consumer.release_stage();
    });
    if constexpr (kRotate) angles.rotate_back(dq);
    if constexpr (Tiles::kStagesOut) {
        const SharedAddress out = consumer.shared.out_q(consumer.group, consumer.warp);
        put_rows<typename Tiles::OutQ>(out, dq, p.attention.scale, consumer.lane);
        shared_written();
        __syncwarp();
        if (consumer.lane == 0) {
            store_rows_of<typename Tiles::OutQ>(p.dq, out, row, head, batch);
            stores_commit();
        }
    } else {
        store_block(token_rows(p.attention.dq, batch, head, sizes.query_key()), dq, p.attention.scale,
                    p.attention.scale, row, sizes.tokens, consumer.lane);
    }
}

/// dq = of all heads of the pair; angles: of the warp's queries, the same tokens in each head.
template <typename Widths, bool kRotate, typename Tiles>
__device__ __forceinline__ void round_queries(BackwardConsumer<Tiles>& consumer,
                                              const BackwardKernelParams& p, const QueryTiles& tiles,
                                              const RowAngles<Widths::kRotaryPairs>& angles) {
    for (int i = 0; i < tiles.count; ++i) {
        if (tiles.group_at(i) == consumer.group) {
            if (Tiles::kStagesOut && i >= tiles.of_head) rows_have_left(consumer.lane);
            round_tile<Widths, kRotate>(consumer, p, tiles.batch, tiles.head_at(i), tiles.tile_at(i), angles);
        } else {
            for (int part = 0; part < kConsumers / Tiles::kPiecesOfStage; ++part) consumer.skip_stage();
        }
    }
}

/// row_stats = of one query tile, from out and dout in the next stage: two threads per row, each half of
/// every line.
template <typename Tiles>
__device__ __forceinline__ void leave_row_stats(BackwardConsumer<Tiles>& consumer,
                                                const BackwardKernelParams& p, int64_t pair, int tile) {
    constexpr int kLine = 128, kUnits = kLine / 16 / 2;  // bytes of a line; units of 16 bytes per thread
    using Rows = typename Tiles::ColsV;
    using Pack = Packed<bf16, 8>;
    static_assert(Rows::kWidth % 64 == 0);
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, row = thread / 2;
    const int token = tile * Tiles::kCols + row, tokens = p.attention.sizes.tokens;
    const float lse = token < tokens ? p.attention.lse[pair * tokens + token] * kLog2E : INFINITY;
    const int stage = consumer.wait_stage();
    const std::byte* const out = shared_pointer(consumer.shared.cols_qk(stage));
    const std::byte* const dout = shared_pointer(consumer.shared.cols_v(stage));
    float delta = 0;
#pragma unroll
    for (int part = 0; part < Rows::kParts; ++part) {
#pragma unroll
        for (int i = 0; i < kUnits; ++i) {
            const int at =
                (part * Tiles::kCols + row) * kLine + swizzled<kLine>(row, thread % 2 * kUnits + i) * 16;
            const auto x = Pack::load(reinterpret_cast<const bf16*>(dout + at));
            const auto y = Pack::load(reinterpret_cast<const bf16*>(out + at));
#pragma unroll
            for (int j = 0; j < 8; ++j) delta += x[j] * y[j];
        }
    }
    consumer.release_stage();
    delta += __shfl_xor_sync(kAllLanes, delta, 1);
    if (thread % 2 == 0) p.attention.row_stats[pair * p.padded_tokens + token] = {lse, delta};
}

template <typename Tiles>
__device__ __forceinline__ void leave_stats(BackwardConsumer<Tiles>& consumer, const BackwardKernelParams& p,
                                            const QueryTiles& tiles) {
    const int64_t heads = static_cast<int64_t>(tiles.batch) * p.attention.sizes.heads;
    for (int i = 0; i < tiles.count; ++i) {
        if (tiles.group_at(i) != consumer.group) {
            consumer.skip_stage();
            continue;
        }
        leave_row_stats(consumer, p, heads + tiles.head_at(i), tiles.tile_at(i));
        memory_and_copies();
        __syncwarp();
        if (consumer.lane == 0) add_release(p.ready + tiles.pair, 1);
    }
}

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention::wgmma_streaming
