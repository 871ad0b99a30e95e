#pragma once
// The rotation of a warp's gradients on their way to memory, common to the kernels of attention backward that
// hold whole heads.
#include "kernels/cuda/attention_resident.cuh"

namespace pastur {

/// The angles of a warp's 16 tokens, for accumulators whose columns are all rotated, or the last 32, the
/// shared ones. A column and its partner half the width further are the same lane's.
template <bool kSharedKey>
struct BlockAngles {
    static constexpr int kPairs = kSharedKey ? 2 : 4, kHalf = kPairs * 8;
    float2 cosine[2][kPairs], sine[2][kPairs];

    __device__ void request(const float* table, int first, int tokens, int lane) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int token = min(first + lane / 4 + half * 8, tokens - 1);  // rows past it are not stored
            const float* row = table + token * 2 * kHalf + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < kPairs; ++n) {
                cosine[half][n] = *reinterpret_cast<const float2*>(row + n * 8);
                sine[half][n] = *reinterpret_cast<const float2*>(row + n * 8 + kHalf);
            }
        }
    }

    /// Rotates back (rope.h, kInverse).
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

}  // namespace pastur
