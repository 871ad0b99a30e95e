#pragma once
// What the Hopper attention kernels share. All three are built alike: a block keeps some rows of one head (64
// for each of its consuming warpgroups) and walks the rows of the other side, which one thread of a producing
// warpgroup copies into a ring of stages. Blocks are persistent: while a tile's last products and its output
// are under way, the producer already fetches the next tile's rows.
#include "kernels/cuda/attention/mma_tiles.cuh"
#include "kernels/cuda/attention/softmax.cuh"
#include "kernels/cuda/hopper_tiles.cuh"
#include "kernels/cuda/tensor_map.h"

namespace pastur::attention {

/// Views of the inputs for the copy engine: (column, token, head, sequence). A query or a key is in two
/// parts, the second empty where all of a row has one address.
struct TensorMaps {
    CUtensorMap q[2], k[2], v[1], dout[1];
};

/// The (sequence, head) pairs and their tiles in the order in which persistent blocks take them: pairs in
/// groups whose moving rows fit into L2, in a group the longest tiles first.
struct TileOrder {
    int pairs, tiles, group;
    int end;  ///< of the last tile's rows
    __host__ __device__ int total() const { return pairs * tiles; }
    /// The `index`-th: rank counts from the longest.
    __device__ void at(int index, int& pair, int& rank) const {
        grouped_at(index, pairs, tiles, group, pair, rank);
    }
};

/// One tile of kRows queries, and how many tiles of kKeys keys it sees. `first` may be before token 0, or the
/// end past the last one: such rows are nobody's.
template <int kRows, int kKeys>
struct QueryTile {
    int batch, head, first, steps;

    __device__ QueryTile(const TileOrder& order, const Sizes& sizes, int index) {
        int pair, rank;
        order.at(index, pair, rank);
        batch = pair / sizes.heads;
        head = pair % sizes.heads;
        first = order.end - (rank + 1) * kRows;
        steps = steps_of(first + kRows, sizes.tokens);
    }
    __device__ static int steps_of(int end, int tokens) { return (min(end, tokens) + kKeys - 1) / kKeys; }
};

/// Hands out a launch's tiles one by one, so that blocks that are done early take more of them. In memory,
/// two numbers that are 0 between launches: tiles taken beyond the first of every block, and blocks that are
/// done.
struct TileCounter {
    int* numbers;

    __device__ int take() const { return static_cast<int>(gridDim.x) + atomicAdd(numbers, 1); }
    /// Once by every block, after its last take.
    __device__ void leave() const {
        if (atomicAdd(numbers + 1, 1) + 1 < static_cast<int>(gridDim.x)) return;
        numbers[0] = 0;
        numbers[1] = 0;
    }
};

struct ForwardKernelParams {
    TensorMaps maps;
    ForwardParams<bf16> attention;
    TileOrder order;
    TileCounter counter;
};

/// Widths of a head: a key is content and shared columns; a query has the same in one row.
template <int kContent, int kShared, int kValue>
struct HeadWidths {
    static constexpr int kQk = kContent + kShared, kV = kValue;
    static constexpr bool kSplitQuery = kContent % 64 == 0;
    /// Columns that may be rotated, by 16: the shared ones, which are the last, or all where none is shared.
    static constexpr int kRotaryPairs = (kShared > 0 ? kShared : kContent) / 16;
    template <int kRows>
    using Query = std::conditional_t<kSplitQuery, SwizzledRows<kRows, kContent, kShared>,
                                     SwizzledRows<kRows, kContent + kShared, 0>>;
    template <int kRows>
    using Key = SwizzledRows<kRows, kContent, kShared>;
    template <int kRows>
    using Value = SwizzledRows<kRows, kValue>;
};

/// Calls run.template operator()<kContent, kShared, kValue>() for the heads that have Hopper kernels, one
/// kind after the other until it returns true; false where it never does.
template <typename Run>
bool any_hopper_widths(const Run& run) {
    return run.template operator()<64, 0, 64>() || run.template operator()<32, 32, 64>() ||
           run.template operator()<64, 32, 64>() || run.template operator()<128, 0, 128>() ||
           run.template operator()<64, 64, 128>() || run.template operator()<128, 64, 128>();
}

/// The same for heads of these sizes; false for others than those.
template <typename Run>
bool visit_hopper_widths(const Sizes& sizes, const Run& run) {
    return any_hopper_widths([&]<int kContent, int kShared, int kValue>() {
        if (sizes.content != kContent || sizes.rotary != kShared || sizes.value != kValue) return false;
        run.template operator()<kContent, kShared, kValue>();
        return true;
    });
}

#if defined(PASTUR_HOPPER)

/// Starts the copies of a tile's rows; returns at once. heads: of the two segments.
template <typename Rows, int kMaps>
__device__ __forceinline__ void copy_rows(SharedAddress to, const CUtensorMap (&maps)[kMaps],
                                          SharedAddress barrier, int token, int head, int head_of_second,
                                          int batch) {
    unrolled<Rows::kParts>([&]<int kIndex>() {
        constexpr auto kPart = Rows::part(kIndex);
        copy_box(to + kPart.column * (Rows::kBytes / Rows::kWidth), maps[kPart.segment], barrier,
                 kPart.within, token, kPart.segment == 0 ? head : head_of_second, batch);
    });
}

/// acc = A B^T: 64 rows of A from `row` on, kCols rows of B.
template <typename A, typename B, int kCols, int kTiles>
__device__ __forceinline__ void product_by_rows(float (&acc)[kTiles][4], SharedAddress a, int row,
                                                SharedAddress b) {
    static_assert(kCols <= kTiles * 8);
    static_assert(A::kWidth == B::kWidth);
    unrolled<A::kWidth / 16>([&]<int kStep>() {
        product_of_rows<kCols>(acc, A::template by_rows<kStep * 16>(a, row),
                               B::template by_rows<kStep * 16>(b, 0), kStep > 0);
    });
}

/// 16 rows of a tile in shared memory, a warp's, as a product's operand A. `row`: the lane's own, the
/// (lane % 16)-th of them.
template <typename A, int kSteps>
__device__ __forceinline__ void load_fragments(uint32_t (&fragments)[kSteps][4], SharedAddress a, int row,
                                               int lane) {
    static_assert(kSteps == A::kWidth / 16);
    unrolled<kSteps>([&]<int kStep>() {
        constexpr auto kPart = A::part_of(kStep * 16);
        constexpr int kRowBytes = kPart.width * 2, kUnit = (kStep * 16 - kPart.column) / 8;
        load_matrices(fragments[kStep], a + kPart.column * (A::kBytes / A::kWidth) + row * kRowBytes +
                                            swizzled<kRowBytes>(row, kUnit + lane / 16) * 16);
    });
}

/// acc = A B^T: 64 rows of A in fragments, kCols rows of B.
template <typename B, int kCols, int kSteps, int kTiles>
__device__ __forceinline__ void product_by_rows(float (&acc)[kTiles][4], const uint32_t (&a)[kSteps][4],
                                                SharedAddress b) {
    static_assert(kCols <= kTiles * 8 && kSteps == B::kWidth / 16);
    unrolled<kSteps>([&]<int kStep>() {
        product_of_fragment_and_rows<kCols>(acc, a[kStep], B::template by_rows<kStep * 16>(b, 0), kStep > 0);
    });
}

/// acc += A B (=, where !keep): A 64 x 16 kSteps in fragments, B as many rows.
template <typename B, int kSteps, int kTiles, int kFragments>
__device__ __forceinline__ void product_by_columns(float (&acc)[kTiles][4],
                                                   const uint32_t (&a)[kFragments][4], SharedAddress b,
                                                   bool keep) {
    static_assert(kTiles == B::kWidth / 8);
    unrolled<kSteps>([&]<int kStep>() {
        unrolled<B::kParts>([&]<int kIndex>() {
            constexpr auto kPart = B::part(kIndex);
            product_of_fragment<kPart.width, kPart.column / 8>(
                acc, a[kStep], B::template by_columns<kIndex, kStep * 16>(b), keep || kStep > 0);
        });
    });
}

/// Rounds accumulators to bf16: two tiles side by side have the layout of a fragment A.
template <int kTiles>
__device__ __forceinline__ void to_fragments(uint32_t (&fragments)[kTiles / 2][4],
                                             const float (&acc)[kTiles][4]) {
#pragma unroll
    for (int k = 0; k < kTiles / 2; ++k) {
        fragments[k][0] = pack_bf16(acc[2 * k][0], acc[2 * k][1]);
        fragments[k][1] = pack_bf16(acc[2 * k][2], acc[2 * k][3]);
        fragments[k][2] = pack_bf16(acc[2 * k + 1][0], acc[2 * k + 1][1]);
        fragments[k][3] = pack_bf16(acc[2 * k + 1][2], acc[2 * k + 1][3]);
    }
}

/// Lets the consuming warpgroups queue their products one after the other, so that the tensor cores work for
/// one while the others compute what lies between products. Every warpgroup takes as many turns.
template <int kConsumers>
struct Turns {
    int group;

    __device__ __forceinline__ void start() const {
        if (group == kConsumers - 1) pass();
    }
    __device__ __forceinline__ void wait() const { barrier_wait(1 + group, 2 * kWarpgroup); }
    __device__ __forceinline__ void pass() const {
        barrier_arrive(1 + (group + 1 == kConsumers ? 0 : group + 1), 2 * kWarpgroup);
    }
    __device__ __forceinline__ void sit_out() const {
        wait();
        pass();
    }
};

/// Writes a warp's 16 rows to tokens `row` ... of `rows`: through `staging`, in whole lines, or, where there
/// is no room for it (0), straight from the registers.
template <int kPitch, int kTiles>
__device__ __forceinline__ void store_rows(const TokenRows<bf16>& rows, const float (&acc)[kTiles][4],
                                           float factor0, float factor1, SharedAddress staging, int row,
                                           int tokens, int lane) {
    if constexpr (kPitch == 0)
        store_block(rows, acc, factor0, factor1, row, tokens, lane);
    else
        store_fragments<kTiles * 8, kPitch>(rows, acc, factor0, factor1, shared_pointer(staging), row, tokens,
                                            lane);
}

/// This thread is done with a stage. Every one says so for itself: as fast as one of a warp for all, and
/// racecheck can follow it.
__device__ __forceinline__ void release(SharedAddress barrier) {
    mbarrier_arrive(barrier);
}

#endif  // PASTUR_HOPPER

/// [B, tokens, heads, width] as boxes of box_rows tokens and box_columns columns. Throws (kOther).
CUtensorMap head_map(const HeadView<const bf16>& view, int width, const Sizes& sizes, int heads, int box_rows,
                     int box_columns);

}  // namespace pastur::attention
