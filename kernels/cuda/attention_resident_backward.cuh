#pragma once
// What happens to a warp's gradients of 16 tokens on their way to memory, common to the kernels of attention
// backward that hold whole heads.
#include "kernels/cuda/attention_resident.cuh"

namespace pastur {

/// dv and dk of a warp's 16 keys go to memory; the shared part of dk at the end of a run.
template <bool kSharedKey>
__device__ void store_key_gradients(const AttentionBackwardParams<bf16>& p, const HeadWalk& walk,
                                    const float (&dk)[8][4], const float (&dv)[8][4], int first, int lane) {
    const int batch = walk.batch(), head = walk.head(), tokens = p.sizes.tokens;
    const auto dk_rows = key_rows<kSharedKey>(p.dk, p.dk_shared, batch, head, head / walk.run);
    store_block(token_rows(p.dv, batch, head, kResidentWidth), dv, 1, 1, first, tokens, lane);
    store_columns<0, 1>(dk_rows, dk, p.scale, p.scale, first, tokens, lane);
    if (!kSharedKey || walk.ends_run())
        store_columns<1, 2>(dk_rows, dk, p.scale, p.scale, first, tokens, lane);
}

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
