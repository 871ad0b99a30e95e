#pragma once
// The sigmoid of the SwiGLU kernels.
#include <type_traits>

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

/// 1 / (1 + e^-x). For bf16 it uses the special function unit, whose error of a few ulp of fp32 is far below
/// the rounding to bf16.
template <typename T>
__device__ float sigmoid(float x) {
    if constexpr (std::is_same_v<T, bf16>)
        return __fdividef(1.0f, 1.0f + exp2_approximate(-1.4426950408889634f * x));
    else
        return 1.0f / (1.0f + expf(-x));
}

}  // namespace pastur
