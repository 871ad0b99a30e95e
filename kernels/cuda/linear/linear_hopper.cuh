#pragma once
// What Hopper's kernels of linear layers share: tiles of products, their order, the thread that fetches their
// operands, and the warpgroups that multiply.
//
// A tile is 128 tokens (64 for each of two consuming warpgroups) by 256 columns. The ring's stages hold 64
// columns of k; the two blocks of a cluster work on neighbouring tokens and the same columns, and each copies
// half of those into both. A tile is only rounded when its products are done, and goes its way in chunks
// beside the next tile's.
#include <algorithm>

#include "kernels/cuda/hopper_tiles.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_map.h"

namespace pastur::linear {

inline constexpr int kTileRows = kConsumers * kGroupRows, kTileColumns = 256, kTiles = kTileColumns / 8;
inline constexpr int kStageColumns = 64;  ///< of k
inline constexpr int kStages = 4;
inline constexpr int kABytes = kTileRows * kStageColumns * 2, kBBytes = kTileColumns * kStageColumns * 2;
inline constexpr int kStageBytes = kABytes + kBBytes;
inline constexpr int kPartBytes = kStageColumns * 64 * 2;  ///< of 64 columns of B
inline constexpr int kConsumingWarps = kConsumers * 4;
/// Each of them has two buffers: 16 rows of 64 columns on their way out, or whatever takes as much.
inline constexpr int kBufferBytes = 16 * 64 * 2;
/// Beside so many steps of k a tile's chunks go their way. Fewer steps would need another loop.
inline constexpr int kSpread = 12, kFewestColumns = (kSpread - 1) * kStageColumns + 1;

/// The tiles in the order in which clusters take them: groups of kGroup pairs of row tiles, in a group column
/// by column, so that what a group reads stays in L2.
struct ProductOrder {
    int pairs, columns;  ///< of tiles
    static constexpr int kGroup = 8;
    __host__ __device__ int total() const { return pairs * columns; }
    __device__ void at(int index, int& pair, int& column) const {
        grouped_at(index, pairs, columns, kGroup, pair, column);
    }
};

struct ProductParams {
    CUtensorMap a, b;  ///< a: [tokens, K]
    int steps;         ///< of k
    ProductOrder order;
};

struct ProductShared {
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
struct ProductWalk {
    const ProductOrder& order;
    int index = static_cast<int>(blockIdx.x) / 2;
    /// The next one, tiles being `columns` wide; false after the last.
    __device__ bool next(Place& tile, int columns) {
        if (index >= order.total()) return false;
        int pair, column;
        order.at(index, pair, column);
        tile = {(pair * 2 + static_cast<int>(blockIdx.x) % 2) * kTileRows, column * columns};
        index += static_cast<int>(gridDim.x) / 2;
        return true;
    }
};

/// The launch's clusters, two blocks each, and how many tiles of `columns` they share.
inline int product_clusters(CudaContext& ctx, ProductOrder& order, int64_t tokens, int64_t outputs,
                            int columns) {
    order = {static_cast<int>(ceil_div(tokens, 2 * kTileRows)), static_cast<int>(ceil_div(outputs, columns))};
    return std::min(ctx.handles().properties.multiProcessorCount / 2, order.total());
}

#if defined(PASTUR_HOPPER)

/// One thread: copies what the tiles of this block multiply. copy_b(to, barrier, k, tile): this block's half
/// of B, into both.
template <typename CopyB>
__device__ __forceinline__ void produce(const ProductParams& p, const ProductShared& shared, int columns,
                                        const CopyB& copy_b) {
    Ring<kStages> ring;
    ProductWalk walk{p.order};
    for (Place tile; walk.next(tile, columns);) {
        for (int step = 0; step < p.steps; ++step) {
            mbarrier_sleep(shared.empty[ring.stage], ring.parity ^ 1);
            const SharedAddress to = shared.stage(ring.stage), barrier = shared.full[ring.stage];
            const int k = step * kStageColumns;
            mbarrier_expect(barrier, kStageBytes);
            copy_box(to, p.a, barrier, k, tile.row, 0, 0);
            copy_b(to + kABytes, barrier, k, tile);
            ring.advance();
        }
    }
}

/// The two numbers of a pair.
__device__ __forceinline__ float low(uint32_t pair) {
    return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}

/// One thread of a consuming warpgroup, what all have in common. B's tile is rows of k, or (kColumnsB)
/// columns of it in four parts.
template <bool kColumnsB>
struct ProductConsumer {
    const ProductShared& shared;
    int steps;
    int group, warp, lane;
    Ring<kStages> ring = {};
    /// The last tile's products, rounded, in pairs of columns.
    uint32_t made[kTiles * 2] = {};
    Place at = {};
    bool there = false;  ///< whether there was one

    /// Both blocks' producers write into this stage of both.
    __device__ __forceinline__ void release(int stage) const {
        __syncwarp();
        if (lane < 2) mbarrier_arrive_at(shared.empty[stage], lane);
    }

    /// Queues the products of the next stage, whose number it returns.
    __device__ __forceinline__ int step(float (&acc)[kTiles][4], bool keep) {
        mbarrier_sleep(shared.full[ring.stage], ring.parity);
        // In a cluster an address names the block too, in bits that a descriptor has no place for.
        const SharedAddress stage = shared.stage(ring.stage) & 0x3ffff;
        const SharedAddress a = stage + group * kGroupRows * 128, b = stage + kABytes;
        products_begin();
        unrolled<kStageColumns / 16>([&]<int kStep>() __attribute__((always_inline)) {
            const uint64_t left = SwizzledRows<kGroupRows, 64>::descriptor<64, kStep * 32>(a);
            if constexpr (!kColumnsB) {
                product_of_rows<kTileColumns>(acc, left,
                                              SwizzledRows<kTileColumns, 64>::descriptor<64, kStep * 32>(b),
                                              keep || kStep > 0);
            } else {
                // From one part's 64 columns to the next's, in place of the 1 that a descriptor has here.
                constexpr uint64_t kParts = static_cast<uint64_t>(kPartBytes / 16 - 1) << 16;
                product_of_rows_and_columns(
                    acc, left, SwizzledRows<kStageColumns, 64>::descriptor<64, kStep * 16 * 128>(b) + kParts,
                    keep || kStep > 0);
            }
        });
        products_commit();
        const int number = ring.stage;
        ring.advance();
        return number;
    }

    /// acc = a tile's products; beside the first kSpread steps, beside.operator()<step>().
    template <typename Beside>
    __device__ __forceinline__ void multiply(float (&acc)[kTiles][4], const Beside& beside) {
        int last = 0;
        const auto advance = [&](int number) __attribute__((always_inline)) {
            products_wait<1>();
            release(last);
            last = number;
        };
        unrolled<kSpread>([&]<int kStep>() __attribute__((always_inline)) {
            const int number = step(acc, kStep > 0);
            beside.template operator()<kStep>();
            if constexpr (kStep > 0)
                advance(number);
            else
                last = number;
        });
        for (int i = kSpread; i < steps; ++i) advance(step(acc, true));
        products_wait<0>();
        products_done(acc);
        release(last);
    }
    /// They are the last tile's from here on.
    __device__ __forceinline__ void round(const float (&acc)[kTiles][4], const Place& tile) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
            made[2 * t] = pack_bf16(acc[t][0], acc[t][1]);
            made[2 * t + 1] = pack_bf16(acc[t][2], acc[t][3]);
        }
        at = tile;
        there = true;
    }
    /// The warp's part of the next tile, `columns` wide.
    __device__ __forceinline__ bool next_of(ProductWalk& walk, Place& mine, int columns) const {
        const bool found = walk.next(mine, columns);
        mine.row += group * kGroupRows + warp * 16;
        return found;
    }

    __device__ __forceinline__ SharedAddress buffer(int index) const {
        return shared.base + ProductShared::kBuffersAt + ((group * 4 + warp) * 2 + index) * kBufferBytes;
    }
    /// Puts 16 rows of kRowBytes there.
    template <int kRowBytes>
    __device__ __forceinline__ void put(SharedAddress rows, const uint32_t* words) const {
#pragma unroll
        for (int t = 0; t < kRowBytes / 16; t += 2) {
            const uint32_t r[4] = {words[2 * t], words[2 * t + 1], words[2 * t + 2], words[2 * t + 3]};
            store_matrices(place<kRowBytes>(rows, t), r);
        }
    }
    /// Where this lane's row of tile and tile + 1 lies.
    template <int kRowBytes>
    __device__ __forceinline__ SharedAddress place(SharedAddress rows, int tile) const {
        const int row = lane % 16;
        return rows + row * kRowBytes + swizzled<kRowBytes>(row, tile + lane / 16) * 16;
    }
    /// 16 words, 64 columns, on their way out. Two buffers take turns.
    __device__ __forceinline__ void send(const CUtensorMap& map, const uint32_t* words, int index, int column,
                                         int head) const {
        if (lane == 0) stores_read<1>();
        __syncwarp();
        const SharedAddress rows = buffer(index);
        put<128>(rows, words);
        shared_written();
        __syncwarp();
        if (lane != 0) return;
        if (there) store_box(map, rows, column, at.row, head, 0);
        stores_commit();
    }
};

/// Before a kernel's first use of them.
__device__ __forceinline__ void start_product_barriers(const ProductShared& shared) {
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            mbarrier_init(shared.full[stage], 1);
            mbarrier_init(shared.empty[stage], 2 * kConsumingWarps);
        }
        for (int i = 0; i < 2 * kConsumingWarps; ++i) mbarrier_init(shared.loaded[i], 1);
        mbarrier_init_done();
    }
    cluster_sync();
}

/// A kernel: its first thread runs produce(shared), two warpgroups Consumer(base, p).run().
template <typename Consumer, typename Params, typename Produce>
__device__ __forceinline__ void run_products(const Params& p, const Produce& produce) {
    const ProductShared shared;
    start_product_barriers(shared);
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (warpgroup == 0) {
        give_registers<Registers<kConsumers>::kProducer>();
        if (threadIdx.x == 0) produce(shared);
        __syncwarp();
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        Consumer consumer({shared, p.steps, warpgroup - 1, static_cast<int>(threadIdx.x) / 32 % 4,
                           static_cast<int>(threadIdx.x) % 32},
                          p);
        consumer.run();
    }
    cluster_sync();  // nobody leaves while the other block may still write here or arrive
}

#endif  // PASTUR_HOPPER

/// [rows, columns] in boxes; its rows may be strided.
inline CUtensorMap matrix_map(const ConstTensor& matrix, int box_rows, int box_columns) {
    return tensor_map({device_data<bf16>(matrix), matrix.size(1), matrix.size(0), matrix.stride(0)}, box_rows,
                      box_columns);
}

}  // namespace pastur::linear
