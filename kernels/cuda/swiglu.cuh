#pragma once
// What SwiGLU's kernels share.
#include <type_traits>

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

/// 1 / (1 + e^-x). For bf16 by the special function unit, whose error (a few ulp of fp32) the rounding hides.
template <typename T>
__device__ float sigmoid(float x) {
    if constexpr (std::is_same_v<T, bf16>)
        return __fdividef(1.0f, 1.0f + exp2_approximate(-1.4426950408889634f * x));
    else
        return 1.0f / (1.0f + expf(-x));
}

}  // namespace pastur
