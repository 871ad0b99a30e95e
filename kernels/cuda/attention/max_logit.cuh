#pragma once
// The largest score of each head (max_logit of causal_attention.h), for train.qk_clip. Every path has the maximum of each
// row of scores in registers for its softmax, so the largest of a tile of rows costs one warp reduction and one atomic per
// warp, after the last key. A branch on a null pointer, the same for all threads, instead of kernels of their own
// instantiation: it is outside the loop over keys, and touches no number of the softmax, so passes that do not ask for the
// maximum keep their bits.
#include "kernels/cuda/attention/params.h"

namespace pastur::attention {

/// A float as an integer of the same order (-0 below +0), and back.
__device__ __forceinline__ int ordered(int bits) {
    return bits >= 0 ? bits : bits ^ 0x7fffffff;
}

/// *to = max(*to, value), value not NaN. Of two floats with positive sign the larger has the larger bits; with negative
/// sign, the smaller.
__device__ __forceinline__ void atomic_max(float* to, float value) {
    const int bits = __float_as_int(value);
    if (bits >= 0)
        atomicMax(reinterpret_cast<int*>(to), bits);
    else
        atomicMin(reinterpret_cast<unsigned*>(to), static_cast<unsigned>(bits));
}

/// The head's number = max(itself, the largest `value` of the warp's lanes), if it is asked for. A lane without a row has
/// -infinity; NaN counts as that. All lanes must call it.
__device__ __forceinline__ void raise_max_logit(const HeadMaxima& maxima, int head, float value) {
    if (maxima.data == nullptr) return;
    const float number = value == value ? value : -INFINITY;
    const int largest = __reduce_max_sync(kAllLanes, ordered(__float_as_int(number)));
    if (threadIdx.x % kWarp == 0)
        atomic_max(maxima.data + static_cast<int64_t>(head) * maxima.stride,
                   __int_as_float(ordered(largest)));
}

/// Of the rows of 16 queries from `row` on, of which a thread shares two with the three others of its quad. maximum: of the
/// unscaled scores; rows from `tokens` on do not count.
__device__ __forceinline__ void raise_max_logit(const HeadMaxima& maxima, int head, const float (&maximum)[2],
                                                float scale, int row, int tokens) {
    if (maxima.data == nullptr) return;
    const int first = row + static_cast<int>(threadIdx.x) % kWarp / 4;
    const float low = first < tokens ? maximum[0] : -INFINITY,
                high = first + 8 < tokens ? maximum[1] : -INFINITY;
    raise_max_logit(maxima, head, fmaxf(low, high) * scale);
}

}  // namespace pastur::attention
