#pragma once
// Shared by the fused GEMM kernels on Hopper: tiles of the output, their order, the thread that loads
// operands, and the warpgroups that multiply.
//
// A tile is 128 tokens (64 for each of two consuming warpgroups) by 256 columns. A stage of the ring holds 64
// columns of k. The two blocks of a cluster compute adjacent tokens of the same columns, and each loads half
// of B for both. When the accumulation of a tile is done, the tile is only rounded. Its epilogue runs in
// chunks, overlapped with the accumulation of the next tile.
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
/// Each consuming warp has two buffers of this size: 16 rows of 64 columns to be stored, or other data of the
/// epilogue.
inline constexpr int kBufferBytes = 16 * 64 * 2;
/// Number of steps of k over which the epilogue of the previous tile is spread. Fewer steps would need
/// another loop.
inline constexpr int kSpread = 12, kFewestColumns = (kSpread - 1) * kStageColumns + 1;

/// The order in which clusters take tiles: by groups of kGroup pairs of row tiles, and within a group column
/// by column, so the operands of a group stay in L2.
struct ProductOrder {
    int pairs, columns;  ///< pairs of row tiles, column tiles
    static constexpr int kGroup = 8;
    __host__ __device__ int total() const { return pairs * columns; }
    __device__ void at(int index, int& pair, int& column) const {
        grouped_at(index, pairs, columns, kGroup, pair, column);
    }
};

struct ProductParams {
    CUtensorMap a, b;  ///< a: [tokens, K]
    int steps;         ///< number of stages along k
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

/// First row and column of a tile, or of a warp's part of it.
struct Place {
    int row, column;
};

/// Iterates over the tiles of this block.
struct ProductWalk {
    const ProductOrder& order;
    int index = static_cast<int>(blockIdx.x) / 2;
    /// Sets `tile` to the next tile of `columns` columns. Returns false after the last.
    __device__ bool next(Place& tile, int columns) {
        if (index >= order.total()) return false;
        int pair, column;
        order.at(index, pair, column);
        tile = {(pair * 2 + static_cast<int>(blockIdx.x) % 2) * kTileRows, column * columns};
        index += static_cast<int>(gridDim.x) / 2;
        return true;
    }
};

/// Number of clusters to launch, of two blocks each. Sets `order` for tiles of `columns` columns.
inline int product_clusters(CudaContext& ctx, ProductOrder& order, int64_t tokens, int64_t outputs,
                            int columns) {
    order = {static_cast<int>(ceil_div(tokens, 2 * kTileRows)), static_cast<int>(ceil_div(outputs, columns))};
    return std::min(ctx.handles().properties.multiProcessorCount / 2, order.total());
}

#if defined(PASTUR_HOPPER)

/// Loads the operands of this block's tiles; called by one thread. copy_b(to, barrier, k, tile) loads this
/// block's half of B into both blocks of the cluster.
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

/// The two numbers of a pair of bf16.
__device__ __forceinline__ float low(uint32_t pair) {
    return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}

/// State and steps of one thread of a consuming warpgroup that all epilogues share. B is stored by rows of
/// its 256 outputs, or, if kColumnsB, by rows of k, in four parts of 64 columns.
template <bool kColumnsB>
struct ProductConsumer {
    const ProductShared& shared;
    int steps;
    int group, warp, lane;
    Ring<kStages> ring = {};
    /// The previous tile, rounded, in pairs of columns.
    uint32_t rounded[kTiles * 2] = {};
    Place at = {};
    bool has_previous = false;  ///< whether there is a previous tile

    /// Marks a stage as free in both blocks, because both producers write into both.
    __device__ __forceinline__ void release(int stage) const {
        __syncwarp();
        if (lane < 2) mbarrier_arrive_at(shared.empty[stage], lane);
    }

    /// Queues the wgmmas of the next stage and returns the number of that stage.
    __device__ __forceinline__ int step(float (&acc)[kTiles][4], bool keep) {
        mbarrier_sleep(shared.full[ring.stage], ring.parity);
        // In a cluster the upper bits of an address name the block; a descriptor has no field for them.
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
                // Distance between parts of 64 columns; replaces the 1 that descriptor() puts into this
                // field.
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

    /// acc = the sums of a tile. Overlaps the first kSpread steps with overlapped.operator()<step>().
    template <typename Overlapped>
    __device__ __forceinline__ void multiply(float (&acc)[kTiles][4], const Overlapped& overlapped) {
        int last = 0;
        const auto advance = [&](int number) __attribute__((always_inline)) {
            products_wait<1>();
            release(last);
            last = number;
        };
        unrolled<kSpread>([&]<int kStep>() __attribute__((always_inline)) {
            const int number = step(acc, kStep > 0);
            overlapped.template operator()<kStep>();
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
    /// Rounds acc, which becomes the previous tile.
    __device__ __forceinline__ void round(const float (&acc)[kTiles][4], const Place& tile) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
            rounded[2 * t] = pack_bf16(acc[t][0], acc[t][1]);
            rounded[2 * t + 1] = pack_bf16(acc[t][2], acc[t][3]);
        }
        at = tile;
        has_previous = true;
    }
    /// Sets `mine` to this warp's part of the next tile of `columns` columns.
    __device__ __forceinline__ bool next_of(ProductWalk& walk, Place& mine, int columns) const {
        const bool found = walk.next(mine, columns);
        mine.row += group * kGroupRows + warp * 16;
        return found;
    }

    __device__ __forceinline__ SharedAddress buffer(int index) const {
        return shared.base + ProductShared::kBuffersAt + ((group * 4 + warp) * 2 + index) * kBufferBytes;
    }
    /// Stores 16 rows of kRowBytes bytes to `rows` in shared memory.
    template <int kRowBytes>
    __device__ __forceinline__ void put(SharedAddress rows, const uint32_t* words) const {
#pragma unroll
        for (int t = 0; t < kRowBytes / 16; t += 2) {
            const uint32_t r[4] = {words[2 * t], words[2 * t + 1], words[2 * t + 2], words[2 * t + 3]};
            store_matrices(place<kRowBytes>(rows, t), r);
        }
    }
    /// Address of this lane's row of the 8-column tiles `tile` and tile + 1.
    template <int kRowBytes>
    __device__ __forceinline__ SharedAddress place(SharedAddress rows, int tile) const {
        const int row = lane % 16;
        return rows + row * kRowBytes + swizzled<kRowBytes>(row, tile + lane / 16) * 16;
    }
    /// Stores 16 words per lane, a warp's 16 rows of 64 columns, to memory through buffer `index`. The two
    /// buffers alternate.
    __device__ __forceinline__ void send(const CUtensorMap& map, const uint32_t* words, int index, int column,
                                         int head) const {
        if (lane == 0) stores_read<1>();
        __syncwarp();
        const SharedAddress rows = buffer(index);
        put<128>(rows, words);
        shared_written();
        __syncwarp();
        if (lane != 0) return;
        if (has_previous) store_box(map, rows, column, at.row, head, 0);
        stores_commit();
    }
};

/// Initialises the barriers of the block.
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

/// Body of a kernel: the first thread runs produce(shared), and two warpgroups run Consumer(base, p).run().
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
    cluster_sync();  // the other block may still write to this block's shared memory and barriers
}

#endif  // PASTUR_HOPPER

/// Tensor map of a matrix, whose rows may be strided.
inline CUtensorMap matrix_map(const ConstTensor& matrix, int box_rows, int box_columns) {
    return tensor_map({device_data<bf16>(matrix), matrix.size(1), matrix.size(0), matrix.stride(0)}, box_rows,
                      box_columns);
}

}  // namespace pastur::linear
