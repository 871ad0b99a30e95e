#pragma once
// Tiles of bf16 rows in shared memory, filled by cp.async, and a warp's mma.sync GEMMs over them.
#include "kernels/cuda/attention/accumulators.cuh"
#include "kernels/cuda/mma.cuh"

namespace pastur::attention {

/// kRows x kWidth bf16, row-major. Rows are padded by 16 bytes: the pitch is an odd number of 16-byte units,
/// so the eight rows of an ldmatrix matrix fall into different banks, and every address is one base plus a
/// constant.
template <int kRows, int kWidth>
struct Tile {
    static_assert(kWidth % 32 == 0);
    static constexpr int kPitch = kWidth * 2 + 16;
    static constexpr int kBytes = kRows * kPitch;

    /// The lane's ldmatrix address for the 16 x 16 elements at (row, 0): operand A, or, transposed, two
    /// 8-column operands B of a GEMM over the tile's rows.
    __device__ static SharedAddress lane_a(SharedAddress tile, int row, int lane) {
        return tile + (row + lane % 16) * kPitch + lane / 16 * 16;
    }
    /// The lane's ldmatrix address for operand B of a GEMM over the tile's columns: r[0], r[1] are rows 0 to
    /// 7, r[2], r[3] rows 8 to 15.
    __device__ static SharedAddress lane_b(SharedAddress tile, int lane) {
        return tile + (lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 16;
    }
};

/// Starts the copy of tokens [first, first + kRows) to a tile; rows past `tokens` and columns past rows.width
/// become zero. All threads of the CTA take part; widths are multiples of 8 and rows are aligned to 16 bytes.
template <int kRows, int kWidth, int kThreads>
__device__ void load_tile(SharedAddress tile, const TokenRows<const bf16>& rows, int first, int tokens) {
    constexpr int kLanes = kWidth % 64 == 0 ? 8 : 4;  // threads along a row
    constexpr int kRowStep = kThreads / kLanes;
    static_assert(kRows % kRowStep == 0);
    const int thread_row = static_cast<int>(threadIdx.x) / kLanes;
    const int thread_column = static_cast<int>(threadIdx.x) % kLanes * 8;
#pragma unroll
    for (int i = 0; i < kWidth / (8 * kLanes); ++i) {
        const int column = thread_column + i * kLanes * 8;
        const bool inside = column < rows.width;
        const auto source = rows.column(inside ? column : 0);
        SharedAddress to = tile + thread_row * Tile<kRows, kWidth>::kPitch + column * 2;
#pragma unroll
        for (int r = 0; r < kRows; r += kRowStep) {
            const bool valid = inside && first + thread_row + r < tokens;
            copy_async_16(to + r * Tile<kRows, kWidth>::kPitch, source.at(first + thread_row + r), valid);
        }
    }
}

/// Operand A of a GEMM, 16 rows x kDepth columns of a tile. kKeep holds it in registers, for widths that
/// leave room; otherwise every GEMM reads it from shared memory again.
template <int kRows, int kDepth, bool kKeep>
struct OperandA {
    SharedAddress at;

    __device__ void load(SharedAddress tile, int row, int lane) {
        at = Tile<kRows, kDepth>::lane_a(tile, row, lane);
    }
    __device__ void fragment(uint32_t (&a)[4], int k) const { load_matrices(a, at + k * 32); }
};

template <int kRows, int kDepth>
struct OperandA<kRows, kDepth, true> {
    uint32_t kept[kDepth / 16][4];

    __device__ void load(SharedAddress tile, int row, int lane) {
        const SharedAddress at = Tile<kRows, kDepth>::lane_a(tile, row, lane);
#pragma unroll
        for (int k = 0; k < kDepth / 16; ++k) load_matrices(kept[k], at + k * 32);
    }
    __device__ void fragment(uint32_t (&a)[4], int k) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = kept[k][i];
    }
};

/// acc = A B^T over the kDepth columns of both: A 16 x kDepth, B a tile of kCols rows.
template <int kCols, int kDepth, typename A>
__device__ void multiply_rows(float (&acc)[kCols / 8][4], const A& a, SharedAddress tile_b, int lane) {
    const SharedAddress at = Tile<kCols, kDepth>::lane_b(tile_b, lane);
    clear(acc);
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
        uint32_t fa[4];
        a.fragment(fa, k);
#pragma unroll
        for (int n = 0; n < kCols / 16; ++n) {
            uint32_t fb[4];
            load_matrices(fb, at + n * 16 * Tile<kCols, kDepth>::kPitch + k * 32);
            multiply_add(acc[2 * n], fa, fb[0], fb[1]);
            multiply_add(acc[2 * n + 1], fa, fb[2], fb[3]);
        }
    }
}

/// acc += S B over the kCols columns of S and rows of B: S are a warp's 16 x kCols accumulators, rounded to
/// bf16 (two neighbouring tiles have the layout of operand A), B is a tile of kCols rows.
template <int kCols, int kWidth>
__device__ void accumulate_rows(float (&acc)[kWidth / 8][4], const float (&s)[kCols / 8][4],
                                SharedAddress tile_b, int lane) {
    const SharedAddress at = Tile<kCols, kWidth>::lane_a(tile_b, 0, lane);
#pragma unroll
    for (int k = 0; k < kCols / 16; ++k) {
        const uint32_t fa[4] = {pack_bf16(s[2 * k][0], s[2 * k][1]), pack_bf16(s[2 * k][2], s[2 * k][3]),
                                pack_bf16(s[2 * k + 1][0], s[2 * k + 1][1]),
                                pack_bf16(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < kWidth / 16; ++n) {
            uint32_t fb[4];
            load_matrices_transposed(fb, at + k * 16 * Tile<kCols, kWidth>::kPitch + n * 32);
            multiply_add(acc[2 * n], fa, fb[0], fb[1]);
            multiply_add(acc[2 * n + 1], fa, fb[2], fb[3]);
        }
    }
}

}  // namespace pastur::attention
