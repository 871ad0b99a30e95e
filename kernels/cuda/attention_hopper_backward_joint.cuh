#pragma once
// Attention backward on Hopper in one kernel, stationary in the keys: dk and dv, and dq as sums in memory.
//
// Five products instead of the seven of the kernels that are stationary in one side each. A consuming
// warpgroup owns 64 of the block's keys, as in attention_hopper_backward_key.cu; its dS^T goes through shared
// memory, too, where both warpgroups multiply it by all keys of the block, each for half of the columns of
// dq. That runs one step late, so that no warpgroup waits for the other's dS^T of the same step. What a block
// adds to dq leaves in fp32 by the copy engine, piece by piece (a tile of queries, a half of the columns).
//
// A piece is added to in one fixed order, blocks of keys downwards: a block waits for its turn, a number in
// memory, and the block on the diagonal, which is the first, writes instead of adding. Blocks of threads take
// the blocks of keys of a head in that order, too, so that each finds its predecessor at least as far as
// itself.
//
// Here are its shared memory, and the threads that feed it and that send the pieces.
#include "kernels/cuda/attention_hopper_backward_key.cuh"

namespace pastur {

template <typename Widths>
struct JointTiles {
    static constexpr int kCols = 64;  ///< queries
    using RowsQk = typename Widths::template Key<kRows>;
    using RowsV = typename Widths::template Value<kRows>;
    using ColsQk = typename Widths::template Query<kCols>;
    using ColsV = typename Widths::template Value<kCols>;
    using Scores = SwizzledRows<kRows, kCols>;  ///< dS^T
    /// Whether dk and dv leave so few registers that what else a step needs may not live at the same time.
    static constexpr bool kWide = Widths::kQk + Widths::kV > 256;
    static constexpr int kStages = kWide ? 2 : 3;
    static constexpr int kRowStages = Widths::kQk + Widths::kV > 128 ? 1 : 2;
    static constexpr int kStatsBytes = kCols * static_cast<int>(sizeof(float2));
    static constexpr int kStationaryBytes = RowsQk::kBytes + RowsV::kBytes;
    static constexpr int kMovingBytes = ColsQk::kBytes + ColsV::kBytes;
    static constexpr int kPieceColumns = Widths::kQk / 2;
    static constexpr int kPieceBytes = kCols * kPieceColumns * static_cast<int>(sizeof(float));
    static constexpr int kSlots = kWide ? 1 : 2;  ///< for pieces on their way out

    static constexpr int kStagesAt = kRowStages * kStationaryBytes;
    static constexpr int kScoresAt = kStagesAt + kStages * kMovingBytes;
    static constexpr int kPiecesAt = kScoresAt + 2 * Scores::kBytes;
    static constexpr int kStatsAt = kPiecesAt + kSlots * kPieceBytes;
    static constexpr int kBarriersAt = kStatsAt + kStages * kStatsBytes;
    static constexpr int kIndexAt = kBarriersAt + (2 * kRowStages + 2 * kStages + 3 * kConsumers) * 8;
    static constexpr int kSharedBytes = kIndexAt + 16 + kSharedAlignment;
    static_assert(kScoresAt % 1024 == 0 && kSharedBytes <= kHopperSharedBytes);
};

template <typename Tiles>
struct JointShared : BackwardShared<Tiles> {
    Barriers piece_full{this->empty[Tiles::kStages]}, piece_empty{piece_full[2 * kConsumers]};

    /// Tells that the group's `count`-th piece is there. Two a group, so that a sender that comes late, or
    /// early, takes no phase for another of the same parity.
    __device__ SharedAddress full_at(int group, int count) const {
        return piece_full[count % 2 * kConsumers + group];
    }

    __device__ SharedAddress scores(int step) const {
        return this->base + Tiles::kScoresAt + step % 2 * Tiles::Scores::kBytes;
    }
    __device__ SharedAddress piece(int group) const {
        return this->base + Tiles::kPiecesAt + group % Tiles::kSlots * Tiles::kPieceBytes;
    }
    /// Which block of keys a stage holds, while its rows_full says so.
    __device__ volatile int& index(int stage) const {
        return shared_number(this->base + Tiles::kIndexAt + stage * static_cast<int>(sizeof(int)));
    }
    /// From now on, shared.rows are those of a stage.
    __device__ void select_rows(int stage) { this->rows = this->base + stage * Tiles::kStationaryBytes; }
};

/// The threads that send pieces, each in a warp of its own beside the producer's.
inline constexpr int kSenders = 3;

/// Where a piece's sum is, and its turn: [B, H, tiles of queries, groups].
__device__ inline int64_t piece_index(const HopperBackwardParams& p, int batch, int head, int tile,
                                      int group) {
    const int64_t pair = static_cast<int64_t>(batch) * p.attention.sizes.heads + head;
    return (pair * (p.padded_tokens / kGroupRows) + tile) * kConsumers + group;
}

#if defined(PASTUR_HOPPER)

template <typename Tiles>
__device__ __forceinline__ KeyTile<Tiles> joint_tile(const HopperBackwardParams& p, int index) {
    return {p.attention.sizes, index / p.order.tiles, p.order.tiles - 1 - index % p.order.tiles};
}

template <typename Tiles>
__device__ __forceinline__ void produce(const HopperBackwardParams& p, JointShared<Tiles>& shared) {
    Ring<Tiles::kStages> ring;
    for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
        // Taken, not given: a block that waits for another's turn waits for one that already runs. And taken
        // late, so that it does run soon.
        const int index = atomicAdd(p.attention.dq_next, 1);
        mbarrier_sleep(shared.rows_empty[rows.stage], rows.parity ^ 1);
        shared.index(rows.stage) = index;
        if (index >= p.order.total()) {
            mbarrier_arrive(shared.rows_full[rows.stage]);
            return;
        }
        const auto tile = joint_tile<Tiles>(p, index);
        shared.select_rows(rows.stage);
        copy_keys(p, shared, tile, shared.rows_full[rows.stage]);
        produce_queries(p, shared, tile, ring);
    }
}

/// Waits for a step's piece of a group, the group's `count`-th, and for this block's turn; then writes it or
/// adds it, and passes the turn on.
template <typename Tiles>
__device__ __forceinline__ void send_piece(const HopperBackwardParams& p, const JointShared<Tiles>& shared,
                                           const KeyTile<Tiles>& tile, int step, int group, int count) {
    const int queries = tile.queries_at(step);
    const int64_t piece = piece_index(p, tile.batch, tile.head_at(p.attention.sizes, step), queries, group);
    const int before = queries * Tiles::kCols / kRows - tile.first / kRows;  // blocks of keys
    int* turn = p.attention.dq_turns + piece;
    float* sum = p.attention.dq_sums + piece * (Tiles::kPieceBytes / 4);
    if (before > 0) {
        while (load_acquire(turn) < before) {
        }
        memory_and_copies();
    }
    mbarrier_sleep(shared.full_at(group, count), count / 2 % 2);
    if (before > 0)
        add_floats(sum, shared.piece(group), Tiles::kPieceBytes);
    else
        store_bytes(sum, shared.piece(group), Tiles::kPieceBytes);
    stores_commit();
    stores_read<0>();
    mbarrier_arrive(shared.piece_empty[group]);
    stores_done();
    memory_and_copies();
    store_release(turn, before + 1);
}

/// Sends every kSenders-th piece on its way: one thread alone would hold the others up, since each piece has
/// to be seen in memory before the next block's turn.
template <typename Tiles>
__device__ __forceinline__ void send_pieces(const HopperBackwardParams& p, const JointShared<Tiles>& shared,
                                            int sender) {
    int ahead = sender, count = 0;  // pieces before this sender's next one; steps so far
    for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
        mbarrier_sleep(shared.rows_full[rows.stage], rows.parity);
        const int index = shared.index(rows.stage);
        release(shared.rows_empty[rows.stage]);
        if (index >= p.order.total()) return;
        const auto tile = joint_tile<Tiles>(p, index);
        for (int step = 0; step < tile.steps; ++step, ++count) {
            for (; ahead < kConsumers; ahead += kSenders) send_piece(p, shared, tile, step, ahead, count);
            ahead -= kConsumers;
        }
    }
}

#endif  // PASTUR_HOPPER

/// Before the kernel: row_stats =, and no block has had its turn yet. After it: dq = from its sums.
void attention_hopper_begin_sums(CudaContext& ctx, const HopperBackwardParams& p);
void attention_hopper_round_sums(CudaContext& ctx, const HopperBackwardParams& p);

}  // namespace pastur
