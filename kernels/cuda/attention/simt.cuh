#pragma once
// Tiles of the simt path in shared memory and the fp32 GEMMs over them.
#include "kernels/cuda/attention/cta_position.cuh"
#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/token_rows.cuh"

namespace pastur::attention::simt {

inline constexpr int kTile = 64;   ///< rows and columns of a tile of scores, and output columns of a CTA
inline constexpr int kDepth = 32;  ///< columns (or rows) of the operands in shared memory at a time
inline constexpr int kThreads = 256;
inline constexpr int kPitch = kTile + 4;  ///< keeps rows aligned to 16 bytes, the loads of four floats

/// 34 KB. a, b: operands with the summed index first; p: probabilities or their gradient, column first.
struct Operands {
    float a[kDepth][kPitch], b[kDepth][kPitch], p[kTile][kPitch];
};

/// A thread owns 4 x 4 elements of a 64 x 64 tile: rows row(i), columns column(j). The 16 threads of a row
/// are half a warp.
using Accumulators = float[4][4];
__device__ inline int row(int i) {
    return static_cast<int>(threadIdx.x) / 16 * 4 + i;
}
__device__ inline int column(int j) {
    return static_cast<int>(threadIdx.x) % 16 * 4 + j;
}

/// 64 tokens of one (sequence, head); reads zero outside.
template <typename T>
struct TokenTile {
    TokenRows<const T> rows;
    int first, tokens;

    __device__ float at(int row, int column) const {
        if (first + row >= tokens || column >= rows.width) return 0;
        return to_float(*rows.column(column).at(first + row));
    }
};

/// Number of CTAs that share an output of `width` columns.
__host__ __device__ inline int chunks(int width) {
    return (width + kTile - 1) / kTile;
}

/// acc += a^T b over the kDepth rows of both.
__device__ inline void add_product(Accumulators& acc, const float (&a)[kDepth][kPitch],
                                   const float (&b)[kDepth][kPitch]) {
#pragma unroll 2
    for (int k = 0; k < kDepth; ++k) {
        const float4 x = *reinterpret_cast<const float4*>(&a[k][row(0)]);
        const float4 y = *reinterpret_cast<const float4*>(&b[k][column(0)]);
        const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) acc[i][j] += xs[i] * ys[j];
        }
    }
}

/// acc = a b^T over the columns of both. Starts with a barrier: the CTA may overwrite what it read before.
template <typename T>
__device__ void multiply_tiles(Accumulators& acc, const TokenTile<T>& a, const TokenTile<T>& b,
                               Operands& shared) {
#pragma unroll
    for (int i = 0; i < 16; ++i) acc[i / 4][i % 4] = 0;
    for (int depth = 0; depth < a.rows.width; depth += kDepth) {
        __syncthreads();
#pragma unroll 2
        for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
            shared.a[i % kDepth][i / kDepth] = a.at(i / kDepth, depth + i % kDepth);
            shared.b[i % kDepth][i / kDepth] = b.at(i / kDepth, depth + i % kDepth);
        }
        __syncthreads();
        add_product(acc, shared.a, shared.b);
    }
}

/// acc += p b over the columns of p and rows of b, for b's columns [first, first + 64). p is a tile of
/// scores, divided between threads as acc is. Call after multiply_tiles, whose barriers guard shared.p.
template <typename T>
__device__ void accumulate_tile(Accumulators& acc, const Accumulators& p, const TokenTile<T> b, int first,
                                Operands& shared) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        *reinterpret_cast<float4*>(&shared.p[column(j)][row(0)]) = float4{p[0][j], p[1][j], p[2][j], p[3][j]};
    }
#pragma unroll 1
    for (int half = 0; half < kTile; half += kDepth) {
        __syncthreads();
#pragma unroll 2
        for (int i = static_cast<int>(threadIdx.x); i < kDepth * kTile; i += kThreads) {
            shared.b[i / kTile][i % kTile] = b.at(half + i / kTile, first + i % kTile);
        }
        __syncthreads();
        add_product(acc, *reinterpret_cast<const float(*)[kDepth][kPitch]>(&shared.p[half]), shared.b);
    }
}

/// Stores acc, row i times factor[i], to columns [first, first + 64) of tokens token ...
template <typename T>
__device__ void store_tile(const TokenRows<T>& rows, const Accumulators& acc, const float (&factor)[4],
                           int token, int tokens, int first) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (token + row(i) >= tokens || first + column(j) >= rows.width) continue;
            *rows.column(first + column(j)).at(token + row(i)) = from_float<T>(acc[i][j] * factor[i]);
        }
    }
}

/// Sum over the 16 threads of a row, in all of them.
__device__ inline float row_sum(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
    return x;
}
/// Maximum over the 16 threads of a row, in all of them.
__device__ inline float row_max(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
    return x;
}

}  // namespace pastur::attention::simt
