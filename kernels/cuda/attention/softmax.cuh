#pragma once
// What happens to a warp's scores between two products, common to the tensor-core attention kernels.
#include "kernels/cuda/attention/mma_tiles.cuh"

namespace pastur::attention {

/// The running softmax of the two rows a thread shares with three others: maxima of the raw scores, and this
/// thread's part of the sums of 2^(c (s - max)).
struct OnlineSoftmax {
    float maximum[2] = {-INFINITY, -INFINITY};
    float sum[2] = {0, 0};

    /// s becomes 2^(c (s - maximum)); the factors by which what was summed before shrinks go to rescale. Keys
    /// are visited in ascending order, so that key 0 makes every maximum finite at once. c > 0.
    template <int kTiles>
    __device__ void step(float (&s)[kTiles][4], float (&rescale)[2], float c) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float largest = maximum[half];
#pragma unroll
            for (int n = 0; n < kTiles; ++n)
                largest = fmaxf(largest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
            rescale[half] = exp2_approximate(c * (maximum[half] - largest));
            maximum[half] = largest;
            const float offset = c * largest;
            float added = 0;
#pragma unroll
            for (int n = 0; n < kTiles; ++n) {
                s[n][2 * half] = exp2_approximate(s[n][2 * half] * c - offset);
                s[n][2 * half + 1] = exp2_approximate(s[n][2 * half + 1] * c - offset);
                added += s[n][2 * half] + s[n][2 * half + 1];
            }
            sum[half] = sum[half] * rescale[half] + added;
        }
    }

    __device__ void finish() {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            sum[half] += __shfl_xor_sync(kAllLanes, sum[half], 1);
            sum[half] += __shfl_xor_sync(kAllLanes, sum[half], 2);
        }
    }
};

/// Scores of keys after the query become -infinity; a thread holds rows `row` and row + 8, columns `key`,
/// key + 1, key + 8 ...
template <int kTiles>
__device__ void mask_later_keys(float (&s)[kTiles][4], int row, int key) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (key + n * 8 + i % 2 > row + i / 2 * 8) s[n][i] = -INFINITY;
        }
    }
}

/// What a warp keeps of its 16 queries while it walks the keys.
template <typename Operand, int kQk, int kV>
struct QueryRows {
    Operand q;
    OnlineSoftmax softmax;
    float out[kV / 8][4];

    /// Takes in keys [key, key + kKeys); `row` is the first of the warp's queries.
    template <int kKeys, bool kMask>
    __device__ void attend(SharedAddress k_tile, SharedAddress v_tile, int row, int key, float c, int lane) {
        float s[kKeys / 8][4];
        multiply_rows<kKeys, kQk>(s, q, k_tile, lane);
        if constexpr (kMask) mask_later_keys(s, row + lane / 4, key + lane % 4 * 2);
        float rescale[2];
        softmax.step(s, rescale, c);
#pragma unroll
        for (int n = 0; n < kV / 8; ++n) {
            out[n][0] *= rescale[0], out[n][1] *= rescale[0];
            out[n][2] *= rescale[1], out[n][3] *= rescale[1];
        }
        accumulate_rows<kKeys, kV>(out, s, v_tile, lane);
    }

    /// Writes lse of tokens `row` ..., after softmax.finish().
    __device__ void store_lse(float* lse, int row, int tokens, float scale, int lane) const {
        const int token = row + lane / 4 + lane % 4 * 8;  // lanes 0 and 1 of a row's four write
        if (lane % 4 >= 2 || token >= tokens) return;
        const float maximum = lane % 4 == 0 ? softmax.maximum[0] : softmax.maximum[1];
        const float sum = lane % 4 == 0 ? softmax.sum[0] : softmax.sum[1];
        lse[token] = maximum * scale + logf(sum);
    }
};

/// s = S^T becomes P^T, and dp = dP^T becomes dS^T = P^T (dP^T - delta), for one tile whose rows are keys and
/// whose columns are queries: lse and delta belong to columns, at `stats` lie (log2(e) lse, delta) of this
/// lane's first two; `ahead`: by how many tokens its first query is ahead of its first key.
template <int kTiles>
__device__ void probabilities_by_key(float (&s)[kTiles][4], float (&dp)[kTiles][4], SharedAddress stats,
                                     float c, int ahead) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
        const float4 pair = load_shared_16(stats + n * 8 * static_cast<int>(sizeof(float2)));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float prob = exp2_approximate(s[n][i] * c - (i % 2 == 0 ? pair.x : pair.z));
            if (i / 2 * 8 - n * 8 - i % 2 > ahead) prob = 0;
            s[n][i] = prob;
            dp[n][i] = prob * (dp[n][i] - (i % 2 == 0 ? pair.y : pair.w));
        }
    }
}

}  // namespace pastur::attention
