#pragma once
// The producer warpgroup of wgmma/streaming_backward.cu: one thread fills the ring, three send pieces of dq.
#include "kernels/cuda/attention/wgmma/streaming_backward.cuh"

namespace pastur::attention::wgmma_streaming {

#if defined(PASTUR_HOPPER)

/// Producer: starts the copies of a tile's keys and values to shared.rows, which must be free.
template <typename Tiles, Mask kMask>
__device__ __forceinline__ void copy_keys(const BackwardKernelParams& p, const BackwardShared<Tiles>& shared,
                                          const KeyTile<Tiles, kMask>& tile, SharedAddress full) {
    mbarrier_expect(full, Tiles::kStationaryBytes);
    copy_rows<typename Tiles::RowsQk>(shared.rows_qk(), p.maps.k, full, tile.first, tile.head, 0, tile.batch);
    copy_rows<typename Tiles::RowsV>(shared.rows_v(), p.maps.v, full, tile.first, tile.head, 0, tile.batch);
}

/// Producer: copies the queries of all steps of a key tile to the ring, with dout and row_stats.
template <typename Tiles, Mask kMask>
__device__ __forceinline__ void produce_queries(const BackwardKernelParams& p,
                                                const BackwardShared<Tiles>& shared,
                                                const KeyTile<Tiles, kMask>& tile,
                                                Ring<Tiles::kStages>& ring) {
    const Sizes& sizes = p.attention.sizes;
    for (int step = 0; step < tile.steps; ++step, ring.advance()) {
        const int head = tile.head_at(sizes, step), query = tile.queries_at(step) * Tiles::kCols;
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

/// Waits until a number in memory is at least `least`; TMA then sees what was written before the number.
__device__ __forceinline__ void wait_in_memory(const int* number, int least) {
    while (load_acquire(number) < least) {
    }
    memory_and_copies();
}

/// Producer: copies the complete sums of dq to the ring, as many pieces per stage as fit.
template <Mask kMask, typename Tiles>
__device__ __forceinline__ void produce_sums(const BackwardKernelParams& p, BackwardShared<Tiles>& shared,
                                             const QueryTiles& tiles, Ring<Tiles::kStages>& ring) {
    constexpr int kBytes = Tiles::kPiecesOfStage * Tiles::kPieceBytes;
    for (int i = 0; i < tiles.count; ++i) {
        const int tile = tiles.tile_at(i);
        int blocks_of_keys = tile / kConsumers + 1;
        if constexpr (kMask == Mask::kDocuments)
            blocks_of_keys -= first_key_of(p.attention.documents, p.attention.sizes.tokens, tiles.batch,
                                           tile * Tiles::kCols) /
                              kRows;
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

/// Producer: copies the inputs of row_stats to the ring: out in the place of queries, and dout.
template <typename Tiles>
__device__ __forceinline__ void produce_outputs(const BackwardKernelParams& p, BackwardShared<Tiles>& shared,
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

template <Mask kMask, typename Tiles>
__device__ __forceinline__ void produce(const BackwardKernelParams& p, BackwardShared<Tiles>& shared) {
    constexpr int kWarps = kWarpgroup / 32;
    Ring<Tiles::kStages> ring;
    for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
        // Items are taken dynamically: a CTA that waits for a turn waits for a CTA that already runs. They
        // are taken as late as possible, so each runs soon after.
        const int index = atomicAdd(p.next, 1);
        mbarrier_sleep(shared.rows_empty[rows.stage], rows.parity ^ 1);
        shared.index(rows.stage) = index;
        const BackwardItem item(p.order, p.distances, index);
        if (p.order.has(item.keys)) {
            const KeyTile<Tiles, kMask> tile(p, item.keys, item.tile);
            shared.select_rows(rows.stage);
            copy_keys(p, shared, tile, shared.rows_full[rows.stage]);
            wait_in_memory(p.ready + item.keys,
                           p.attention.sizes.group() * (p.padded_tokens / kGroupRows) * kWarps);
            produce_queries(p, shared, tile, ring);
        } else {
            mbarrier_arrive(shared.rows_full[rows.stage]);
            if (index >= backward_items(p.order, p.distances)) return;
        }
        if (p.order.has(item.sums)) produce_sums<kMask>(p, shared, QueryTiles(p, item.sums, item.tile), ring);
        if (p.order.has(item.stats))
            produce_outputs(p, shared, QueryTiles(p, item.stats, item.stats_tile), ring);
    }
}

/// Waits for the group's `count`-th piece, which belongs to a step, and for this CTA's turn; writes the piece
/// or adds it, and passes the turn on.
template <typename Tiles, Mask kMask>
__device__ __forceinline__ void send_piece(const BackwardKernelParams& p, const BackwardShared<Tiles>& shared,
                                           const KeyTile<Tiles, kMask>& tile, int step, int group,
                                           int count) {
    const int queries = tile.queries_at(step);
    const int64_t piece = piece_index(p, tile.batch, tile.head_at(p.attention.sizes, step), queries, group);
    const int before = queries * Tiles::kCols / kRows - tile.first / kRows;  // key tiles before this one
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

/// Sends every kSenders-th piece. One thread alone would delay the others, because each piece must be visible
/// in memory before the next CTA's turn.
template <Mask kMask, typename Tiles>
__device__ __forceinline__ void send_pieces(const BackwardKernelParams& p,
                                            const BackwardShared<Tiles>& shared, int sender) {
    int ahead = sender, count = 0;  // pieces before this sender's next one; steps so far
    for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
        mbarrier_sleep(shared.rows_full[rows.stage], rows.parity);
        const int index = shared.index(rows.stage);
        release(shared.rows_empty[rows.stage]);
        if (index >= backward_items(p.order, p.distances)) return;
        const BackwardItem item(p.order, p.distances, index);
        if (!p.order.has(item.keys)) continue;
        const KeyTile<Tiles, kMask> tile(p, item.keys, item.tile);
        for (int step = 0; step < tile.steps; ++step, ++count) {
            for (; ahead < kConsumers; ahead += kSenders) send_piece(p, shared, tile, step, ahead, count);
            ahead -= kConsumers;
        }
    }
}

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention::wgmma_streaming
