#pragma once
// Tiles of the kernels that end a linear layer with SwiGLU on Hopper, their order, and the thread that
// fetches their operands.
//
// A tile is 128 tokens (64 for each of two consuming warpgroups) by 256 columns: forward's are 128 of gate
// and the 128 of up that they meet. The ring's stages hold 64 columns of k; the two blocks of a cluster work
// on neighbouring tokens and the same columns, and each copies half of those into both.
#include "kernels/cuda/hopper_tiles.cuh"

namespace pastur::gated {

inline constexpr int kTileRows = kConsumers * kGroupRows, kTileColumns = 256, kTiles = kTileColumns / 8;
inline constexpr int kStageColumns = 64;  ///< of k
inline constexpr int kStages = 4;
inline constexpr int kABytes = kTileRows * kStageColumns * 2, kBBytes = kTileColumns * kStageColumns * 2;
inline constexpr int kStageBytes = kABytes + kBBytes;
inline constexpr int kPartBytes = kStageColumns * 64 * 2;  ///< backward: 64 of B's columns
inline constexpr int kConsumingWarps = kConsumers * 4;
/// Each of them has two buffers: 16 rows of 64 columns on their way out, or of 32 of gate and of up.
inline constexpr int kBufferBytes = 16 * 64 * 2, kHalfBytes = kBufferBytes / 2;
/// A tile goes its way in so many chunks, beside so many steps of k of the next.
inline constexpr int kChunks = 8, kSpread = 12;
/// Backward: the chunk that begins at a step; -1: none.
constexpr int chunk_of(int step) {
    return step < 0 || step % 3 == 2 ? -1 : step / 3 * 2 + step % 3;
}

/// The tiles in the order in which clusters take them: groups of kGroup pairs of row tiles, in a group column
/// by column, so that what a group reads stays in L2.
struct GatedOrder {
    int pairs, columns;  ///< of tiles
    static constexpr int kGroup = 8;
    __host__ __device__ int total() const { return pairs * columns; }
    __device__ void at(int index, int& pair, int& column) const {
        const int first = index / (kGroup * columns) * kGroup, size = min(kGroup, pairs - first);
        const int within = index - first * columns;
        pair = first + within % size;
        column = within / size;
    }
};

struct GatedParams {
    CUtensorMap a, b;     ///< [tokens, K]; forward [2][F, K], backward [K, F]
    CUtensorMap gu_in;    ///< backward, [2][tokens, F], in boxes of a warp's rows: what is read
    CUtensorMap gu, out;  ///< [2][tokens, F] and [tokens, F], likewise: what is written
    int steps;            ///< of k
    GatedOrder order;
};

struct GatedShared {
    static constexpr int kBuffersAt = kStages * kStageBytes;
    static constexpr int kBarriersAt = kBuffersAt + kConsumingWarps * 2 * kBufferBytes;
    static constexpr int kBytes = kSharedAlignment + kBarriersAt + (2 * kStages + 2 * kConsumingWarps) * 8;
    static_assert(kBytes <= kHopperSharedBytes);
    SharedAddress base = shared_base();
    Barriers full{base + kBarriersAt}, empty{full.first + kStages * 8}, loaded{empty.first + kStages * 8};
    __device__ SharedAddress stage(int i) const { return base + i * kStageBytes; }
};

/// Where a tile, or a warp's part of it, begins.
struct Place {
    int row, column;
};

/// The tiles of this block.
struct GatedWalk {
    const GatedOrder& order;
    int index = static_cast<int>(blockIdx.x) / 2;
    /// The next one, tiles being `columns` of F wide; false after the last.
    __device__ bool next(Place& tile, int columns) {
        if (index >= order.total()) return false;
        int pair, column;
        order.at(index, pair, column);
        tile = {(pair * 2 + static_cast<int>(blockIdx.x) % 2) * kTileRows, column * columns};
        index += static_cast<int>(gridDim.x) / 2;
        return true;
    }
};

#if defined(PASTUR_HOPPER)

/// One thread.
template <bool kForward>
__device__ void produce(const GatedParams& p, const GatedShared& shared) {
    const int rank = cluster_rank();
    Ring<kStages> ring;
    GatedWalk walk{p.order};
    for (Place tile; walk.next(tile, kForward ? kTileColumns / 2 : kTileColumns);) {
        for (int step = 0; step < p.steps; ++step) {
            mbarrier_sleep(shared.empty[ring.stage], ring.parity ^ 1);
            const SharedAddress to = shared.stage(ring.stage), barrier = shared.full[ring.stage];
            const int k = step * kStageColumns;
            mbarrier_expect(barrier, kStageBytes);
            copy_box(to, p.a, barrier, k, tile.row, 0, 0);
            if constexpr (kForward) {  // gate's rows or up's
                copy_box_to_both(to + kABytes + rank * (kBBytes / 2), p.b, barrier, k, tile.column, rank, 0);
            } else {
                for (int part = rank * 2; part < rank * 2 + 2; ++part)
                    copy_box_to_both(to + kABytes + part * kPartBytes, p.b, barrier, tile.column + part * 64,
                                     k, 0, 0);
            }
            ring.advance();
        }
    }
}

#endif  // PASTUR_HOPPER

}  // namespace pastur::gated
