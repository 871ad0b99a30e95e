#pragma once
// Rotation of gradients back (rope.h, kInverse) in accumulators.
#include <cuda_runtime.h>

namespace pastur::attention {

/// Rotates two neighbouring columns of a row back, with their partners half the width further. half: 0 for
/// row g of the fragment, 1 for row g + 8.
__device__ inline void rotate_pairs_back(float (&a)[4], float (&b)[4], int half, float2 cosine, float2 sine) {
    const float x = a[2 * half], y = a[2 * half + 1];
    a[2 * half] = x * cosine.x + b[2 * half] * sine.x;
    a[2 * half + 1] = y * cosine.y + b[2 * half + 1] * sine.y;
    b[2 * half] = b[2 * half] * cosine.x - x * sine.x;
    b[2 * half + 1] = b[2 * half + 1] * cosine.y - y * sine.y;
}

/// The angles of a warp's 16 tokens for the last 16 kPairs columns of an accumulator: all columns of a head,
/// or the shared ones. A lane holds both a column and its partner half the width further.
template <int kPairs>
struct RowAngles {
    static constexpr int kHalf = kPairs * 8;
    float2 cosine[2][kPairs], sine[2][kPairs];

    __device__ void request(const float* table, int first, int tokens, int lane) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int token = min(first + lane / 4 + half * 8, tokens - 1);  // later rows are not stored
            const float* row = table + token * 2 * kHalf + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < kPairs; ++n) {
                cosine[half][n] = *reinterpret_cast<const float2*>(row + n * 8);
                sine[half][n] = *reinterpret_cast<const float2*>(row + n * 8 + kHalf);
            }
        }
    }

    /// Rotates the last columns of an accumulator back.
    template <int kTiles>
    __device__ void rotate_back(float (&acc)[kTiles][4]) const {
        constexpr int kFirst = kTiles - 2 * kPairs;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int n = 0; n < kPairs; ++n) {
                rotate_pairs_back(acc[kFirst + n], acc[kFirst + kPairs + n], half, cosine[half][n],
                                  sine[half][n]);
            }
        }
    }
};

}  // namespace pastur::attention
