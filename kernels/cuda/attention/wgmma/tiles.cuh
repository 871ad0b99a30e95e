#pragma once
// Tiles in shared memory as TMA writes them and wgmma reads them, and a warpgroup's GEMMs over them.
#include <type_traits>

#include "kernels/cuda/attention/accumulators.cuh"
#include "kernels/cuda/hopper_tiles.cuh"

namespace pastur::attention {

/// Widths of a head: a key has content and shared columns; a query has the same columns in one row.
template <int kContent, int kShared, int kValue>
struct HeadWidths {
    static constexpr int kQk = kContent + kShared, kV = kValue;
    static constexpr bool kSplitQuery = kContent % 64 == 0;
    /// Columns that may be rotated, divided by 16: the shared ones, which come last, or all where none is
    /// shared.
    static constexpr int kRotaryPairs = (kShared > 0 ? kShared : kContent) / 16;
    template <int kRows>
    using Query = std::conditional_t<kSplitQuery, SwizzledRows<kRows, kContent, kShared>,
                                     SwizzledRows<kRows, kContent + kShared, 0>>;
    template <int kRows>
    using Key = SwizzledRows<kRows, kContent, kShared>;
    template <int kRows>
    using Value = SwizzledRows<kRows, kValue>;
};

#if defined(PASTUR_HOPPER)

/// Starts the TMA copies of a tile's rows and returns at once. head, head_of_second: heads of the two
/// segments.
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

/// Loads 16 rows of a tile in shared memory, a warp's, as operand A. `row`: the lane's own, the (lane %
/// 16)-th of them.
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

/// acc += A B (acc = A B where !keep): A is 64 x 16 kSteps in fragments, B has 16 kSteps rows.
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

/// Stores a warp's 16 rows to tokens row ... of `rows`: through `staging` in whole lines, or straight from
/// the registers where kPitch is 0.
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

/// Stores 16 rows of a warp in bf16 to a SwizzledRows tile with as many columns.
template <int kFragments>
__device__ __forceinline__ void store_scores(SharedAddress scores, const uint32_t (&ds)[kFragments][4],
                                             int row, int lane) {
    constexpr int kRowBytes = kFragments * 32;
    const SharedAddress line = scores + (row + lane / 8 % 2 * 8 + lane % 8) * kRowBytes;
#pragma unroll
    for (int k = 0; k < kFragments; ++k)
        store_matrices(line + swizzled<kRowBytes>(lane % 8, 2 * k + lane / 16) * 16, ds[k]);
}

/// Stores tiles [kFirst, kFirst + kTiles) of a warp's accumulators, times `factor`, to lines row ... of a
/// part in shared memory, from which TMA copies them.
template <int kFirst, int kTiles, int kAll>
__device__ __forceinline__ void put_part(SharedAddress part, const float (&acc)[kAll][4], float factor,
                                         int row, int lane) {
    uint32_t rounded[kTiles / 2][4];
#pragma unroll
    for (int k = 0; k < kTiles / 2; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float(&pair)[4] = acc[kFirst + 2 * k + i / 2];
            rounded[k][i] = pack_bf16(pair[i % 2 * 2] * factor, pair[i % 2 * 2 + 1] * factor);
        }
    }
    store_scores(part, rounded, row, lane);
}
/// Stores all columns of a warp's accumulators, times `factor`, to a SwizzledRows tile of 16 rows.
template <typename Rows, int kTiles>
__device__ __forceinline__ void put_rows(SharedAddress rows, const float (&acc)[kTiles][4], float factor,
                                         int lane) {
    static_assert(kTiles == Rows::kWidth / 8);
    unrolled<Rows::kParts>([&]<int kIndex>() __attribute__((always_inline)) {
        constexpr auto kPart = Rows::part(kIndex);
        put_part<kPart.column / 8, kPart.width / 8>(rows + kPart.column * (Rows::kBytes / Rows::kWidth), acc,
                                                    factor, 0, lane);
    });
}

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention
