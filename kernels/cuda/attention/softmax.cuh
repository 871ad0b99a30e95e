#pragma once
// The online softmax of a warp's rows.
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur::attention {

/// The running softmax of the two rows that a thread shares with the three others of its quad: maxima of the
/// raw scores, and this thread's part of the sums of 2^(c (s - max)).
struct OnlineSoftmax {
    float maximum[2] = {-INFINITY, -INFINITY};
    float sum[2] = {0, 0};

    /// s becomes 2^(c (s - maximum)); `rescale` receives the factors for earlier sums and outputs. Keys come
    /// in ascending order, so key 0 makes every maximum finite at once, unless kSparse: rows may have no
    /// visible key so far. c > 0.
    template <bool kSparse = false, int kTiles>
    __device__ void step(float (&s)[kTiles][4], float (&rescale)[2], float c) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float largest = maximum[half];
#pragma unroll
            for (int n = 0; n < kTiles; ++n)
                largest = fmaxf(largest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
            const float base = kSparse && largest == -INFINITY ? 0 : largest;
            rescale[half] = exp2_approximate(c * (maximum[half] - base));
            maximum[half] = largest;
            const float offset = c * base;
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

}  // namespace pastur::attention
