#pragma once
// Causal attention backward on Hopper: wgmma, tensor copies, a producing warpgroup; one kernel, stationary in
// the keys, whose blocks add dq up in memory one after the other.
//
// A consuming warpgroup owns 64 of the block's keys. Its P^T and dS^T are operands in registers of dv and dk;
// dS^T goes through shared memory, too, where both warpgroups multiply it by all keys of the block, each for
// half of the columns of dq. That runs one step late, so that no warpgroup waits for the other's dS^T of the
// same step. What a block adds to dq leaves in fp32 by the copy engine, piece by piece (a tile of queries, a
// half of the columns).
//
// A piece is added to in one fixed order, blocks of keys downwards: a block waits for its turn, a number in
// memory, and the block on the diagonal, which is the first, writes instead of adding. Blocks of threads take
// the blocks of keys of a head in that order, too, so that each finds its predecessor ahead of itself.
//
// What is due before and after that is done on the way, through the same ring: of some later head row_stats,
// of some earlier one dq from its sums, while these are in L2 (tile_order.h).
//
// Here are its shared memory, and what it works on in which order. The threads that copy are in
// wgmma_streaming_backward_copies.cuh, those that multiply in wgmma_streaming_backward_keys.cuh and
// wgmma_streaming_backward_queries.cuh.
#include "kernels/cuda/attention/tile_order.h"
#include "kernels/cuda/attention/wgmma_tiles.cuh"

namespace pastur::attention::wgmma_streaming {

inline constexpr int kRows = kConsumers * kGroupRows;

template <typename Widths>
struct BackwardTiles {
    static constexpr int kCols = kGroupRows;  ///< queries
    using RowsQk = typename Widths::template Key<kRows>;
    using RowsV = typename Widths::template Value<kRows>;
    using ColsQk = typename Widths::template Query<kCols>;
    using ColsV = typename Widths::template Value<kCols>;
    using Scores = SwizzledRows<kRows, kCols>;  ///< dS^T
    /// Whether dk and dv leave so few registers that what else a step needs may not live at the same time.
    static constexpr bool kWide = Widths::kQk + Widths::kV > 256;
    /// Whether they leave enough for the stationary operands of the first two products.
    static constexpr bool kKeepsRows = Widths::kQk + Widths::kV <= 128;
    /// Whether a step leaves so much shared memory that all gradients go through it on their way out.
    static constexpr bool kStagesOut = Widths::kQk + Widths::kV <= 160;
    /// Blocks of keys in a group of pairs, by how many blocks of threads there are, and how many lie between
    /// a block of keys and dq of its queries at least. By measurement: less than twice as many makes items
    /// wait, and wide sums leave L2 when there are more.
    static constexpr double kGroupItems = kStagesOut ? 1.5 : 0.5, kBehindItems = kStagesOut ? 3 : 2;
    /// Of a thread.
    static constexpr int kHelperRegisters = kWide ? 24 : 40, kConsumerRegisters = kWide ? 240 : 232;
    static_assert(kHelperRegisters + kConsumers * kConsumerRegisters <=
                  (kConsumers + 1) * Registers<kConsumers>::kLaunched);
    /// Whether the next step's S and dP find registers beside dk, dv and the operands of a step's last
    /// products.
    static constexpr bool kRunsAhead = (Widths::kQk + Widths::kV) / 2 + kCols + 2 * kCols / 4 <= 208;
    static constexpr int kStages = kWide ? 2 : 3;
    static constexpr int kRowStages = kKeepsRows ? 2 : 1;
    static constexpr int kStatsBytes = kCols * static_cast<int>(sizeof(float2));
    static constexpr int kStationaryBytes = RowsQk::kBytes + RowsV::kBytes;
    static constexpr int kMovingBytes = ColsQk::kBytes + ColsV::kBytes;
    static constexpr int kPieceColumns = Widths::kQk / 2;
    static constexpr int kPieceBytes = kCols * kPieceColumns * static_cast<int>(sizeof(float));
    static constexpr int kSlots = kWide ? 1 : kKeepsRows ? 4 : 2;  ///< for pieces on their way out
    static constexpr int kSlotsOfGroup = kSlots > kConsumers ? kSlots / kConsumers : 1;
    static constexpr int kPiecesOfStage = kMovingBytes / kPieceBytes > 1 ? 2 : 1;  ///< on their way back in

    static constexpr int kStagesAt = kRowStages * kStationaryBytes;
    static constexpr int kScoresAt = kStagesAt + kStages * kMovingBytes;
    static constexpr int kPiecesAt = kScoresAt + 2 * Scores::kBytes;
    /// Gradients on their way out, a warp's 16 rows of dk, dq and dv.
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

/// The threads that send pieces, each in a warp of its own beside the producer's.
inline constexpr int kSenders = 3;

template <typename Tiles>
struct BackwardShared {
    SharedAddress base = shared_base();
    Barriers rows_full{base + Tiles::kBarriersAt}, rows_empty{rows_full[Tiles::kRowStages]};
    Barriers full{rows_empty[Tiles::kRowStages]}, empty{full[Tiles::kStages]};
    Barriers piece_full{empty[Tiles::kStages]}, piece_empty{piece_full[2 * kConsumers]};

    SharedAddress rows = base;  ///< the stationary pair, keys and values

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
    /// Tells that the group's `count`-th piece is there. Two a group, so that a sender that comes one piece
    /// early takes no phase for another of the same parity.
    static_assert((kSenders - 1) / kConsumers <= 1, "a sender could come two of a group's pieces early");
    __device__ SharedAddress full_at(int group, int count) const {
        return piece_full[count % 2 * kConsumers + group];
    }

    __device__ SharedAddress scores(int step) const {
        return base + Tiles::kScoresAt + step % 2 * Tiles::Scores::kBytes;
    }
    /// Where it is, and what tells that it has left. Without a slot for each group, they share one.
    __device__ SharedAddress piece(int group, int count) const {
        const int slot = (count % Tiles::kSlotsOfGroup * kConsumers + group) % Tiles::kSlots;
        return base + Tiles::kPiecesAt + slot * Tiles::kPieceBytes;
    }
    __device__ SharedAddress empty_at(int group, int count) const {
        return piece_empty[count % Tiles::kSlotsOfGroup * kConsumers + group];
    }
    /// A warp's 16 rows of gradients.
    __device__ SharedAddress out_k(int group, int warp) const {
        return base + Tiles::kOutAt + (group * 4 + warp) * Tiles::kWarpOutBytes;
    }
    __device__ SharedAddress out_q(int group, int warp) const {
        return out_k(group, warp) + Tiles::OutK::kBytes;
    }
    __device__ SharedAddress out_v(int group, int warp) const {
        return out_q(group, warp) + Tiles::OutQ::kBytes;
    }
    /// Which item a stage is for, while its rows_full says so.
    __device__ volatile int& index(int stage) const {
        return shared_number(base + Tiles::kIndexAt + stage * static_cast<int>(sizeof(int)));
    }
    /// From now on, rows are those of a stage.
    __device__ void select_rows(int stage) { rows = base + stage * Tiles::kStationaryBytes; }

#if defined(PASTUR_HOPPER)
    /// One thread, before all others.
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
    BackwardOrder order;
    CUtensorMap out[1];
    CUtensorMap dq[2], dk[2], dv[1];  ///< boxes of a warp's 16 tokens, where tensor copies write them
    BackwardDistances distances;
    // All 0 before the kernel.
    int* turns;  ///< [B, H, tiles of queries, groups]: by how many blocks of keys a piece has been added to
    int* ready;  ///< [B, kv heads]: warps that have written their row_stats
    int* next;   ///< item to be taken
};

/// Where a piece's sum is, and its turn: [B, H, tiles of queries, groups].
__device__ inline int64_t piece_index(const BackwardKernelParams& p, int batch, int head, int tile,
                                      int group) {
    const int64_t pair = static_cast<int64_t>(batch) * p.attention.sizes.heads + head;
    return (pair * (p.padded_tokens / kGroupRows) + tile) * kConsumers + group;
}

/// One tile of keys and the tiles of queries that see it: for each head of the group, from the diagonal on.
template <typename Tiles>
struct KeyTile {
    int batch, head, first, first_step, steps_of_head, steps;

    __device__ KeyTile(const Sizes& sizes, int pair, int index) {
        batch = pair / sizes.kv_heads;
        head = pair % sizes.kv_heads;
        first = index * kRows;
        first_step = first / Tiles::kCols;
        steps_of_head = (sizes.tokens + Tiles::kCols - 1) / Tiles::kCols - first_step;
        steps = steps_of_head * sizes.group();
    }
    /// Of a step: the head, and the tile of queries.
    __device__ int head_at(const Sizes& sizes, int step) const {
        return head * sizes.group() + step / steps_of_head;
    }
    __device__ int queries_at(int step) const { return first_step + step % steps_of_head; }
};

/// The queries of a tile of kRows tokens, kGroupRows at a time, of all heads that read a pair's keys.
/// Consuming warpgroup g takes the g-th of every head.
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
