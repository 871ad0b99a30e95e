#pragma once
// Causal attention backward on Hopper: wgmma, TMA and a producer warpgroup; one kernel, stationary in the
// keys, whose CTAs add up dq in memory one after the other.
//
// A consumer warpgroup owns 64 of the CTA's keys. Its P^T and dS^T are register operands of the GEMMs for dv
// and dk. dS^T also goes through shared memory, where both warpgroups multiply it by all keys of the tile,
// each for half of the columns of dq. That GEMM runs one step late, so no warpgroup waits for the other's
// dS^T of the same step. What a CTA adds to dq leaves by TMA in fp32, in pieces: one tile of queries, half of
// the columns.
//
// Additions to a piece have one fixed order, key tiles downwards. A CTA waits for its turn, a number in
// memory; the first key tile, the one on the diagonal, writes instead of adding. CTAs take the key tiles of a
// head in the same order, so each waits for one that started earlier.
//
// The work before and after is interleaved through the same ring: row_stats of a later head, and dq of an
// earlier head from its sums while these are in L2 (tile_order.h).
//
// This header has the shared memory and the order of work. The threads that copy are in
// wgmma/streaming_backward_copies.cuh, those that multiply in wgmma/streaming_backward_keys.cuh and
// wgmma/streaming_backward_queries.cuh.
#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/ring.cuh"
#include "kernels/cuda/attention/tensor_maps.cuh"
#include "kernels/cuda/attention/tile_order.h"
#include "kernels/cuda/attention/wgmma/tiles.cuh"

namespace pastur::attention::wgmma_streaming {

inline constexpr int kConsumers = 2;  ///< consumer warpgroups of a CTA
inline constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
inline constexpr int kRows = kConsumers * kGroupRows;  ///< keys of a tile

template <typename Widths>
struct BackwardTiles {
    static constexpr int kCols = kGroupRows;  ///< queries of a tile
    using RowsQk = typename Widths::template Key<kRows>;
    using RowsV = typename Widths::template Value<kRows>;
    using ColsQk = typename Widths::template Query<kCols>;
    using ColsV = typename Widths::template Value<kCols>;
    using Scores = SwizzledRows<kRows, kCols>;  ///< dS^T
    /// Whether dk and dv leave so few registers that a step's other operands cannot live at the same time.
    static constexpr bool kWide = Widths::kQk + Widths::kV > 256;
    /// Whether dk and dv leave enough registers for the stationary operands of the first two GEMMs.
    static constexpr bool kKeepsRows = Widths::kQk + Widths::kV <= 128;
    /// Whether a step leaves enough shared memory for all gradients to leave through it.
    static constexpr bool kStagesOut = Widths::kQk + Widths::kV <= 160;
    /// kGroupItems: key tiles in a group of pairs, per CTA. kBehindItems: least number of items from a key
    /// tile to dq of its queries, per CTA. Measured: below twice the group, items wait; with more, wide sums
    /// leave L2.
    static constexpr double kGroupItems = kStagesOut ? 1.5 : 0.5, kBehindItems = kStagesOut ? 3 : 2;
    /// Registers of a thread.
    static constexpr int kHelperRegisters = kWide ? 24 : 40, kConsumerRegisters = kWide ? 240 : 232;
    static_assert(kHelperRegisters + kConsumers * kConsumerRegisters <=
                  (kConsumers + 1) * Registers<kConsumers>::kLaunched);
    /// Whether the next step's S and dP fit into registers together with dk, dv and the operands of a step's
    /// last GEMMs.
    static constexpr bool kRunsAhead = (Widths::kQk + Widths::kV) / 2 + kCols + 2 * kCols / 4 <= 208;
    static constexpr int kStages = kWide ? 2 : 3;
    static constexpr int kRowStages = kKeepsRows ? 2 : 1;
    static constexpr int kStatsBytes = kCols * static_cast<int>(sizeof(float2));
    static constexpr int kStationaryBytes = RowsQk::kBytes + RowsV::kBytes;
    static constexpr int kMovingBytes = ColsQk::kBytes + ColsV::kBytes;
    static constexpr int kPieceColumns = Widths::kQk / 2;
    static constexpr int kPieceBytes = kCols * kPieceColumns * static_cast<int>(sizeof(float));
    static constexpr int kSlots = kWide ? 1 : kKeepsRows ? 4 : 2;  ///< pieces on their way to memory
    static constexpr int kSlotsOfGroup = kSlots > kConsumers ? kSlots / kConsumers : 1;
    static constexpr int kPiecesOfStage = kMovingBytes / kPieceBytes > 1 ? 2 : 1;  ///< sums per stage

    static constexpr int kStagesAt = kRowStages * kStationaryBytes;
    static constexpr int kScoresAt = kStagesAt + kStages * kMovingBytes;
    static constexpr int kPiecesAt = kScoresAt + 2 * Scores::kBytes;
    /// Gradients on their way to memory: a warp's 16 rows of dk, dq and dv.
    using OutK = typename Widths::template Key<16>;
    using OutQ = typename Widths::template Query<16>;
    using OutV = typename Widths::template Value<16>;
    static constexpr int kOutAt = kPiecesAt + kSlots * kPieceBytes;
    static constexpr int kWarpOutBytes = OutK::kBytes + OutQ::kBytes + OutV::kBytes;
    static constexpr int kStatsAt = kOutAt + (kStagesOut ? kConsumers * 4 * kWarpOutBytes : 0);
    static constexpr int kBarriersAt = kStatsAt + kStages * kStatsBytes;
    static constexpr int kIndexAt =
        kBarriersAt + (2 * kRowStages + 2 * kStages + (2 + kSlotsOfGroup) * kConsumers) * 8;
    static constexpr int kSharedBytes = kIndexAt + 16 + kSharedAlignment;
    static_assert(kScoresAt % 1024 == 0 && kSharedBytes <= kHopperSharedBytes);
    static_assert(kPieceBytes <= kMovingBytes && ColsV::kBytes <= ColsQk::kBytes);
};

/// Threads that send pieces, each in its own warp of the producer warpgroup.
inline constexpr int kSenders = 3;

template <typename Tiles>
struct BackwardShared {
    SharedAddress base = shared_base();
    Barriers rows_full{base + Tiles::kBarriersAt}, rows_empty{rows_full[Tiles::kRowStages]};
    Barriers full{rows_empty[Tiles::kRowStages]}, empty{full[Tiles::kStages]};
    Barriers piece_full{empty[Tiles::kStages]}, piece_empty{piece_full[2 * kConsumers]};

    SharedAddress rows = base;  ///< the stationary pair: keys and values

    __device__ SharedAddress rows_qk() const { return rows; }
    __device__ SharedAddress rows_v() const { return rows + Tiles::RowsQk::kBytes; }
    /// The moving pair, queries and dout, and their row_stats.
    __device__ SharedAddress cols_qk(int stage) const {
        return base + Tiles::kStagesAt + stage * Tiles::kMovingBytes;
    }
    __device__ SharedAddress cols_v(int stage) const { return cols_qk(stage) + Tiles::ColsQk::kBytes; }
    __device__ SharedAddress stats(int stage) const {
        return base + Tiles::kStatsAt + stage * Tiles::kStatsBytes;
    }
    /// Completes when the group's `count`-th piece is in shared memory. Two barriers per group: a sender that
    /// comes one piece early must not take a phase for another of the same parity.
    static_assert((kSenders - 1) / kConsumers <= 1, "a sender could come two of a group's pieces early");
    __device__ SharedAddress full_at(int group, int count) const {
        return piece_full[count % 2 * kConsumers + group];
    }

    __device__ SharedAddress scores(int step) const {
        return base + Tiles::kScoresAt + step % 2 * Tiles::Scores::kBytes;
    }
    /// The piece's place in shared memory. Groups share one slot where there are not enough for each.
    __device__ SharedAddress piece(int group, int count) const {
        const int slot = (count % Tiles::kSlotsOfGroup * kConsumers + group) % Tiles::kSlots;
        return base + Tiles::kPiecesAt + slot * Tiles::kPieceBytes;
    }
    __device__ SharedAddress empty_at(int group, int count) const {
        return piece_empty[count % Tiles::kSlotsOfGroup * kConsumers + group];
    }
    /// Places for a warp's 16 rows of gradients.
    __device__ SharedAddress out_k(int group, int warp) const {
        return base + Tiles::kOutAt + (group * 4 + warp) * Tiles::kWarpOutBytes;
    }
    __device__ SharedAddress out_q(int group, int warp) const {
        return out_k(group, warp) + Tiles::OutK::kBytes;
    }
    __device__ SharedAddress out_v(int group, int warp) const {
        return out_q(group, warp) + Tiles::OutQ::kBytes;
    }
    /// The item that a stage is for; valid after its rows_full.
    __device__ volatile int& index(int stage) const {
        return shared_number(base + Tiles::kIndexAt + stage * static_cast<int>(sizeof(int)));
    }
    /// Makes `rows` those of a stage.
    __device__ void select_rows(int stage) { rows = base + stage * Tiles::kStationaryBytes; }

#if defined(PASTUR_HOPPER)
    /// Initialises the barriers; one thread, before all others.
    __device__ void start() const {
        for (int stage = 0; stage < Tiles::kRowStages; ++stage) {
            mbarrier_init(rows_full[stage], 1);
            mbarrier_init(rows_empty[stage], kConsumers * kWarpgroup + kSenders);
        }
        for (int stage = 0; stage < Tiles::kStages; ++stage) {
            mbarrier_init(full[stage], 1);
            mbarrier_init(empty[stage], kConsumers * kWarpgroup);
        }
        for (int group = 0; group < kConsumers; ++group) {
            mbarrier_init(full_at(group, 0), kWarpgroup);
            mbarrier_init(full_at(group, 1), kWarpgroup);
            for (int slot = 0; slot < Tiles::kSlotsOfGroup; ++slot) mbarrier_init(empty_at(group, slot), 1);
        }
        mbarrier_init_done();
    }
#endif
};

struct BackwardKernelParams {
    TensorMaps maps;
    BackwardParams<bf16> attention;
    int padded_tokens;  ///< row_stats is [B, H, padded_tokens], (infinity, 0) past the last token
    TileOrder order;
    CUtensorMap out[1];
    CUtensorMap dq[2], dk[2], dv[1];  ///< boxes of a warp's 16 tokens, used where kStagesOut
    BackwardDistances distances;
    // Zero before the kernel:
    int* turns;  ///< [B, H, query tiles, groups]: how many key tiles have been added to a piece
    int* ready;  ///< [B, kv heads]: warps that have written their row_stats
    int* next;   ///< the next item to take
};

/// Index of a piece's sum and of its turn: [B, H, query tiles, groups].
__device__ inline int64_t piece_index(const BackwardKernelParams& p, int batch, int head, int tile,
                                      int group) {
    const int64_t pair = static_cast<int64_t>(batch) * p.attention.sizes.heads + head;
    return (pair * (p.padded_tokens / kGroupRows) + tile) * kConsumers + group;
}

/// One tile of keys, and the query tiles that see it: for each head of the group, from the diagonal on. With documents
/// they end where no query sees the tile's last key; as these ends do not decrease along the keys, the key tiles that a
/// query tile sees are neighbours, down from the one on the diagonal.
template <typename Tiles, Mask kMask>
struct KeyTile {
    int batch, head, first, first_step, steps_of_head, steps;

    __device__ KeyTile(const BackwardKernelParams& p, int pair, int index) {
        const Sizes& sizes = p.attention.sizes;
        batch = pair / sizes.kv_heads;
        head = pair % sizes.kv_heads;
        first = index * kRows;
        first_step = first / Tiles::kCols;
        int end = sizes.tokens;
        if constexpr (kMask == Mask::kDocuments)
            end = query_end_of(p.attention.documents, sizes.tokens, batch, first + kRows - 1);
        steps_of_head = (end + Tiles::kCols - 1) / Tiles::kCols - first_step;
        steps = steps_of_head * sizes.group();
    }
    /// Head and query tile of a step.
    __device__ int head_at(const Sizes& sizes, int step) const {
        return head * sizes.group() + step / steps_of_head;
    }
    __device__ int queries_at(int step) const { return first_step + step % steps_of_head; }
};

/// The queries of a tile of kRows tokens, kGroupRows at a time, of all heads that read a pair's keys.
/// Consumer warpgroup g takes the g-th kGroupRows of every head.
struct QueryTiles {
    int pair, batch, head, first, of_head, count;

    __device__ QueryTiles(const BackwardKernelParams& p, int pair_, int tile) : pair(pair_) {
        const Sizes& sizes = p.attention.sizes;
        batch = pair / sizes.kv_heads;
        head = pair % sizes.kv_heads * sizes.group();
        first = tile * kConsumers;
        of_head = min(kConsumers, p.padded_tokens / kGroupRows - first);
        count = of_head * sizes.group();
    }
    __device__ int head_at(int i) const { return head + i / of_head; }
    __device__ int group_at(int i) const { return i % of_head; }
    __device__ int tile_at(int i) const { return first + group_at(i); }
};

}  // namespace pastur::attention::wgmma_streaming
