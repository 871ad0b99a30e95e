#pragma once
// Causal attention backward on Hopper: wgmma, tensor copies, a producing warpgroup.
//
// Two ways. Most heads: one kernel, stationary in the keys, whose blocks add dq up in memory one after the
// other (attention_hopper_backward_joint.cu). Heads of 96 columns, whose halves it does not have, as on sm_80
// (attention_sm80_backward.cu) in two kernels, one stationary in the queries (dq), one in the keys (dk, dv):
// S and dP are computed twice, seven products instead of five; in exchange nothing that is multiplied leaves
// the registers and no sum leaves the chip. In all of them every sum has one fixed order. Here is what they
// share.
#include <algorithm>

#include "kernels/cuda/attention_hopper.cuh"

namespace pastur {

inline constexpr int kRows = kConsumers * kGroupRows;

/// A block's stationary pair of tiles, of queries and dout or of keys and values, and the stages of the
/// moving pair, of kCols rows.
template <typename StationaryQk, typename StationaryV, typename MovingQk, typename MovingV, int kStatsBytes_,
          int kStages_>
struct BackwardTiles {
    using RowsQk = StationaryQk;
    using RowsV = StationaryV;
    using ColsQk = MovingQk;
    using ColsV = MovingV;
    static constexpr int kStages = kStages_, kRowStages = 1, kStatsBytes = kStatsBytes_;
    static constexpr int kCols = ColsQk::kBytes / ColsQk::kWidth / 2;
    static constexpr bool kKeepsRows = false;
    static constexpr int kStationaryBytes = RowsQk::kBytes + RowsV::kBytes;
    static constexpr int kMovingBytes = ColsQk::kBytes + ColsV::kBytes;

    static constexpr int kStagesAt = kStationaryBytes;
    static constexpr int kStatsAt = kStagesAt + kStages * kMovingBytes;
    static constexpr int kPitch =
        std::max(RowsQk::kWidth, RowsV::kWidth) * 2 + 16;  ///< of rows on their way out
    static constexpr int kOutAt = kStatsAt + kStages * kStatsBytes;
    static constexpr int kBarriersAt = kOutAt + kRows * kPitch;
    static constexpr int kSharedBytes = kBarriersAt + (2 + 2 * kStages) * 8 + kSharedAlignment;
    static_assert(kSharedBytes <= kHopperSharedBytes);
};

template <typename Tiles>
struct BackwardShared {
    SharedAddress base = shared_base();
    Barriers rows_full{base + Tiles::kBarriersAt}, rows_empty{rows_full[Tiles::kRowStages]};
    Barriers full{rows_empty[Tiles::kRowStages]}, empty{full[Tiles::kStages]};

    SharedAddress rows = base;  ///< the stationary pair

    __device__ SharedAddress rows_qk() const { return rows; }
    __device__ SharedAddress rows_v() const { return rows + Tiles::RowsQk::kBytes; }
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

/// helpers: threads that release rows_empty beside the consumers'.
template <typename Tiles>
__device__ __forceinline__ void start_barriers(const BackwardShared<Tiles>& shared, int helpers = 0) {
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < Tiles::kRowStages; ++stage) {
            mbarrier_init(shared.rows_full[stage], 1);
            mbarrier_init(shared.rows_empty[stage], kConsumers * kWarpgroup + helpers);
        }
        for (int stage = 0; stage < Tiles::kStages; ++stage) {
            mbarrier_init(shared.full[stage], 1);
            mbarrier_init(shared.empty[stage], kConsumers * kWarpgroup);
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
    // The stationary operands, where there are registers for them: products then read shared memory half as
    // much.
    static constexpr bool kKeeps = Tiles::kKeepsRows;
    uint32_t rows_qk[kKeeps ? Tiles::RowsQk::kWidth / 16 : 1][4],
        rows_v[kKeeps ? Tiles::RowsV::kWidth / 16 : 1][4];

    /// Before the first products with a block's rows.
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
    /// The first of the two, and the second.
    __device__ __forceinline__ void scores(float (&s)[kTiles][4]) {
        mbarrier_sleep(shared.full[ring.stage], ring.parity);
        products_begin();
        if constexpr (kKeeps)
            product_by_rows<typename Tiles::ColsQk, Tiles::kCols>(s, rows_qk, shared.cols_qk(ring.stage));
        else
            product_by_rows<typename Tiles::RowsQk, typename Tiles::ColsQk, Tiles::kCols>(
                s, shared.rows_qk(), group * kGroupRows, shared.cols_qk(ring.stage));
        products_commit();
    }
    __device__ __forceinline__ void score_gradients(float (&dp)[kTiles][4]) {
        if constexpr (kKeeps)
            product_by_rows<typename Tiles::ColsV, Tiles::kCols>(dp, rows_v, shared.cols_v(ring.stage));
        else
            product_by_rows<typename Tiles::RowsV, typename Tiles::ColsV, Tiles::kCols>(
                dp, shared.rows_v(), group * kGroupRows, shared.cols_v(ring.stage));
        products_commit();
        ring.advance();
    }
    __device__ __forceinline__ void release_stage() {
        release(shared.empty[done.stage]);
        done.advance();
    }
    /// The next stage, once it is full.
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
    /// Passes over steps that only other warpgroups of the block need.
    __device__ __forceinline__ void skip(int steps) {
        for (; steps > 0; --steps) {
            skip_stage();
            turns.sit_out();
        }
    }
    __device__ __forceinline__ void wait_rows() {
        mbarrier_sleep(shared.rows_full[0], rows_parity);
        rows_parity ^= 1;
    }
};

/// (log2(e) lse, delta = rowsum(dout out)) of this lane's two rows, also left to the kernel of the keys;
/// (infinity, 0) past the last token, so that P is 0 there. dout comes from memory a second time rather than
/// out of its permuted tile.
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

#endif  // PASTUR_HOPPER

/// Calls run as visit_hopper_widths does, for heads that the two kernels take.
template <typename Run>
void visit_separate_widths(const AttentionSizes& sizes, const Run& run) {
    visit_hopper_widths(sizes, [&]<int kContent, int kShared, int kValue>() {
        if constexpr ((kContent + kShared) % 64 != 0) run.template operator()<kContent, kShared, kValue>();
    });
}

/// The same for those that the one takes.
template <typename Run>
void visit_joint_widths(const AttentionSizes& sizes, const Run& run) {
    visit_hopper_widths(sizes, [&]<int kContent, int kShared, int kValue>() {
        if constexpr ((kContent + kShared) % 64 == 0) run.template operator()<kContent, kShared, kValue>();
    });
}

/// dq = and row_stats =; then dk =, dk_shared = and dv = from them.
void attention_hopper_query_gradient(CudaContext& ctx, const AttentionBackwardParams<bf16>& params);
void attention_hopper_key_gradients(CudaContext& ctx, const AttentionBackwardParams<bf16>& params);
/// All of them together, through dq_sums.
void attention_hopper_joint_gradients(CudaContext& ctx, const AttentionBackwardParams<bf16>& params);

}  // namespace pastur
