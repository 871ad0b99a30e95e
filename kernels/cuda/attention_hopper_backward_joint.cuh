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
// What is due before and after that is done on the way, through the same ring: of some later head row_stats,
// of some earlier one dq from its sums, while these are in L2 (JointItem).
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
    /// Whether they leave enough for the stationary operands of the first two products, and a step so much
    /// shared memory that all gradients leave through it.
    static constexpr bool kNarrow = Widths::kQk + Widths::kV <= 128;
    static constexpr bool kKeepsRows = kNarrow;
    /// Blocks of keys in a group of pairs, by how many blocks of threads there are, and how many lie between
    /// a block of keys and dq of its queries at least. By measurement: less than twice as many makes items
    /// wait, and wide sums leave L2 when there are more.
    static constexpr double kGroupItems = kNarrow ? 1.5 : 0.5, kBehindItems = kNarrow ? 3 : 2;
    /// Of a thread.
    static constexpr int kHelperRegisters = kWide ? 24 : 40, kConsumerRegisters = kWide ? 240 : 232;
    static_assert(kHelperRegisters + kConsumers * kConsumerRegisters <=
                  (kConsumers + 1) * Registers<kConsumers>::kLaunched);
    static constexpr int kStages = kWide ? 2 : 3;
    static constexpr int kRowStages = Widths::kQk + Widths::kV > 128 ? 1 : 2;
    static constexpr int kStatsBytes = kCols * static_cast<int>(sizeof(float2));
    static constexpr int kStationaryBytes = RowsQk::kBytes + RowsV::kBytes;
    static constexpr int kMovingBytes = ColsQk::kBytes + ColsV::kBytes;
    static constexpr int kPieceColumns = Widths::kQk / 2;
    static constexpr int kPieceBytes = kCols * kPieceColumns * static_cast<int>(sizeof(float));
    static constexpr int kSlots = kWide ? 1 : kNarrow ? 4 : 2;  ///< for pieces on their way out
    static constexpr int kSlotsOfGroup = kSlots > kConsumers ? kSlots / kConsumers : 1;
    static constexpr int kPiecesOfStage = kMovingBytes / kPieceBytes > 1 ? 2 : 1;  ///< on their way back in

    static constexpr int kStagesAt = kRowStages * kStationaryBytes;
    static constexpr int kScoresAt = kStagesAt + kStages * kMovingBytes;
    static constexpr int kPiecesAt = kScoresAt + 2 * Scores::kBytes;
    /// Rows of dk, dv and dq on their way out, a warp's 16 at a time; 0: they leave from the registers.
    static constexpr int kRowsBytes = kNarrow ? 16 * 64 * 2 : 0;
    static constexpr int kRowsAt = kPiecesAt + kSlots * kPieceBytes;
    static constexpr int kStatsAt = kRowsAt + 3 * kConsumers * 4 * kRowsBytes;
    static constexpr int kBarriersAt = kStatsAt + kStages * kStatsBytes;
    static constexpr int kIndexAt =
        kBarriersAt + (2 * kRowStages + 2 * kStages + (2 + kSlotsOfGroup) * kConsumers) * 8;
    static constexpr int kSharedBytes = kIndexAt + 16 + kSharedAlignment;
    static_assert(kScoresAt % 1024 == 0 && kSharedBytes <= kHopperSharedBytes);
    static_assert(kPieceBytes <= kMovingBytes && ColsV::kBytes <= ColsQk::kBytes);
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
    /// Where it is, and what tells that it has left. Without a slot for each group, they share one.
    __device__ SharedAddress piece(int group, int count) const {
        const int slot = (count % Tiles::kSlotsOfGroup * kConsumers + group) % Tiles::kSlots;
        return this->base + Tiles::kPiecesAt + slot * Tiles::kPieceBytes;
    }
    __device__ SharedAddress empty_at(int group, int count) const {
        return piece_empty[count % Tiles::kSlotsOfGroup * kConsumers + group];
    }
    /// A warp's rows of dk (0), dv or dq.
    __device__ SharedAddress rows_out(int which, int group, int warp) const {
        return this->base + Tiles::kRowsAt + ((which * kConsumers + group) * 4 + warp) * Tiles::kRowsBytes;
    }
    /// Which item a stage is for, while its rows_full says so.
    __device__ volatile int& index(int stage) const {
        return shared_number(this->base + Tiles::kIndexAt + stage * static_cast<int>(sizeof(int)));
    }
    /// From now on, shared.rows are those of a stage.
    __device__ void select_rows(int stage) { this->rows = this->base + stage * Tiles::kStationaryBytes; }
};

/// The threads that send pieces, each in a warp of its own beside the producer's.
inline constexpr int kSenders = 3;

struct JointParams : HopperBackwardParams {
    CUtensorMap out[1];
    CUtensorMap dq, dk[2], dv;  ///< boxes of a warp's 16 tokens, where rows leave through shared memory
    int ahead, behind;          ///< see JointItem: in items; in pairs, a multiple of order.group
    // All 0 before the kernel.
    int* turns;  ///< [B, H, tiles of queries, groups]: by how many blocks of keys a piece has been added to
    int* ready;  ///< [B, kv heads]: warps that have written their row_stats
    int* next;   ///< item to be taken

    __host__ __device__ int items() const {
        const int groups = (order.pairs + order.group - 1) / order.group;
        return ahead + (groups * order.group + behind) * order.tiles;
    }
};

/// What blocks of threads take one after the other: a block of keys; then dq of the queries of the same
/// tokens of an earlier pair (of a sequence and a key head), from sums that other items have made by then;
/// then row_stats of queries of a later pair, which other items will need. In the first and the last items
/// some of the three are missing.
///
/// Blocks of keys go by groups of pairs: the last one of each of the group's pairs, then the one before, and
/// so on. So a block starts some steps after the one before whose turn it waits for.
struct JointItem {
    int keys, sums, tile;   ///< pairs, none where has() is false, and the tile of kRows tokens of both
    int stats, stats_tile;  ///< likewise

    __device__ JointItem(const JointParams& p, int index) {
        const TileOrder& order = p.order;
        const int index_of_keys = index - p.ahead, of_group = order.group * order.tiles;
        const int within = max(index_of_keys, 0) % of_group;
        keys = index_of_keys < 0 ? -1 : index_of_keys / of_group * order.group + within % order.group;
        sums = keys - p.behind;
        tile = order.tiles - 1 - within / order.group;
        stats = index / order.tiles;
        stats_tile = order.tiles - 1 - index % order.tiles;
    }
    __device__ static bool has(const JointParams& p, int pair) { return pair >= 0 && pair < p.order.pairs; }
};

/// Where a piece's sum is, and its turn: [B, H, tiles of queries, groups].
__device__ inline int64_t piece_index(const HopperBackwardParams& p, int batch, int head, int tile,
                                      int group) {
    const int64_t pair = static_cast<int64_t>(batch) * p.attention.sizes.heads + head;
    return (pair * (p.padded_tokens / kGroupRows) + tile) * kConsumers + group;
}

/// The queries of a tile of kRows tokens, kGroupRows at a time, of all heads that read a pair's keys.
/// Consuming warpgroup g takes the g-th of every head.
struct QueryTiles {
    int pair, batch, head, first, of_head, count;

    __device__ QueryTiles(const HopperBackwardParams& p, int pair_, int tile) : pair(pair_) {
        const AttentionSizes& sizes = p.attention.sizes;
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

#if defined(PASTUR_HOPPER)

/// Until a number in memory is at least `least`; then the copy engine sees what was written before it was.
__device__ __forceinline__ void wait_in_memory(const int* number, int least) {
    while (load_acquire(number) < least) {
    }
    memory_and_copies();
}

/// Producer: copies the complete sums of dq into the ring, as many pieces a stage as fit.
template <typename Tiles>
__device__ __forceinline__ void produce_sums(const JointParams& p, JointShared<Tiles>& shared,
                                             const QueryTiles& tiles, Ring<Tiles::kStages>& ring) {
    constexpr int kBytes = Tiles::kPiecesOfStage * Tiles::kPieceBytes;
    for (int i = 0; i < tiles.count; ++i) {
        const int tile = tiles.tile_at(i), blocks_of_keys = tile / kConsumers + 1;
        const int64_t piece = piece_index(p, tiles.batch, tiles.head_at(i), tile, 0);
        for (int group = 0; group < kConsumers; ++group)
            wait_in_memory(p.turns + piece + group, blocks_of_keys);
        const float* from = p.attention.dq_sums + piece * (Tiles::kPieceBytes / 4);
        for (int part = 0; part < kConsumers / Tiles::kPiecesOfStage; ++part, ring.advance()) {
            mbarrier_sleep(shared.empty[ring.stage], ring.parity ^ 1);
            mbarrier_expect(shared.full[ring.stage], kBytes);
            copy_bytes(shared.cols_qk(ring.stage), from + part * (kBytes / 4), kBytes,
                       shared.full[ring.stage]);
        }
    }
}

/// Producer: copies what row_stats are made from into the ring: out in the place of queries, and dout.
template <typename Tiles>
__device__ __forceinline__ void produce_outputs(const JointParams& p, JointShared<Tiles>& shared,
                                                const QueryTiles& tiles, Ring<Tiles::kStages>& ring) {
    for (int i = 0; i < tiles.count; ++i, ring.advance()) {
        const int head = tiles.head_at(i), token = tiles.tile_at(i) * Tiles::kCols;
        const SharedAddress full = shared.full[ring.stage];
        mbarrier_sleep(shared.empty[ring.stage], ring.parity ^ 1);
        mbarrier_expect(full, 2 * Tiles::ColsV::kBytes);
        copy_rows<typename Tiles::ColsV>(shared.cols_qk(ring.stage), p.out, full, token, head, 0,
                                         tiles.batch);
        copy_rows<typename Tiles::ColsV>(shared.cols_v(ring.stage), p.maps.dout, full, token, head, 0,
                                         tiles.batch);
    }
}

template <typename Tiles>
__device__ __forceinline__ void produce(const JointParams& p, JointShared<Tiles>& shared) {
    constexpr int kWarps = kWarpgroup / 32;
    Ring<Tiles::kStages> ring;
    for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
        // Taken, not given: a block that waits for another's turn waits for one that already runs. And taken
        // late, so that it does run soon.
        const int index = atomicAdd(p.next, 1);
        mbarrier_sleep(shared.rows_empty[rows.stage], rows.parity ^ 1);
        shared.index(rows.stage) = index;
        const JointItem item(p, index);
        if (item.has(p, item.keys)) {
            const KeyTile<Tiles> tile(p.attention.sizes, item.keys, item.tile);
            shared.select_rows(rows.stage);
            copy_keys(p, shared, tile, shared.rows_full[rows.stage]);
            wait_in_memory(p.ready + item.keys,
                           p.attention.sizes.group() * (p.padded_tokens / kGroupRows) * kWarps);
            produce_queries(p, shared, tile, ring);
        } else {
            mbarrier_arrive(shared.rows_full[rows.stage]);
            if (index >= p.items()) return;
        }
        if (item.has(p, item.sums)) produce_sums(p, shared, QueryTiles(p, item.sums, item.tile), ring);
        if (item.has(p, item.stats))
            produce_outputs(p, shared, QueryTiles(p, item.stats, item.stats_tile), ring);
    }
}

/// Waits for a step's piece of a group, the group's `count`-th, and for this block's turn; then writes it or
/// adds it, and passes the turn on.
template <typename Tiles>
__device__ __forceinline__ void send_piece(const JointParams& p, const JointShared<Tiles>& shared,
                                           const KeyTile<Tiles>& tile, int step, int group, int count) {
    const int queries = tile.queries_at(step);
    const int64_t piece = piece_index(p, tile.batch, tile.head_at(p.attention.sizes, step), queries, group);
    const int before = queries * Tiles::kCols / kRows - tile.first / kRows;  // blocks of keys
    int* turn = p.turns + piece;
    float* sum = p.attention.dq_sums + piece * (Tiles::kPieceBytes / 4);
    if (before > 0) wait_in_memory(turn, before);
    mbarrier_sleep(shared.full_at(group, count), count / 2 % 2);
    if (before > 0)
        add_floats(sum, shared.piece(group, count), Tiles::kPieceBytes);
    else
        store_bytes(sum, shared.piece(group, count), Tiles::kPieceBytes);
    stores_commit();
    stores_read<0>();
    mbarrier_arrive(shared.empty_at(group, count));
    stores_done();
    memory_and_copies();
    store_release(turn, before + 1);
}

/// Sends every kSenders-th piece on its way: one thread alone would hold the others up, since each piece has
/// to be seen in memory before the next block's turn.
template <typename Tiles>
__device__ __forceinline__ void send_pieces(const JointParams& p, const JointShared<Tiles>& shared,
                                            int sender) {
    int ahead = sender, count = 0;  // pieces before this sender's next one; steps so far
    for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
        mbarrier_sleep(shared.rows_full[rows.stage], rows.parity);
        const int index = shared.index(rows.stage);
        release(shared.rows_empty[rows.stage]);
        if (index >= p.items()) return;
        const JointItem item(p, index);
        if (!item.has(p, item.keys)) continue;
        const KeyTile<Tiles> tile(p.attention.sizes, item.keys, item.tile);
        for (int step = 0; step < tile.steps; ++step, ++count) {
            for (; ahead < kConsumers; ahead += kSenders) send_piece(p, shared, tile, step, ahead, count);
            ahead -= kConsumers;
        }
    }
}

#endif  // PASTUR_HOPPER

}  // namespace pastur
