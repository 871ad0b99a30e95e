#pragma once
// Quantisation to e4m3 inside kernels that hold a whole row.
#include <cuda_fp8.h>

#include "kernels/fp8_rows.h"
#include "kernels/fp8_scale.h"

namespace pastur {

__device__ inline uint8_t to_f8(float value) {
    return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}

/// Writes number(0) to number(kWidth - 1), quantised, to kWidth consecutive bytes; `to` is aligned to kWidth
/// bytes.
template <int kWidth, typename Number>
__device__ inline void store_f8(uint8_t* to, const Number& number) {
    if constexpr (kWidth == 1) {
        *to = to_f8(number(0));
    } else {
        uint32_t words[kWidth / 4];
#pragma unroll
        for (int w = 0; w < kWidth / 4; ++w) {
            const auto pair = [&](int i) -> uint32_t {
                return __nv_cvt_float2_to_fp8x2({number(i), number(i + 1)}, __NV_SATFINITE, __NV_E4M3);
            };
            words[w] = pair(4 * w) | pair(4 * w + 2) << 16;
        }
        if constexpr (kWidth == 8)
            *reinterpret_cast<uint2*>(to) = {words[0], words[1]};
        else
            *reinterpret_cast<uint32_t*>(to) = words[0];
    }
}

/// The largest |pack[i]|. fmaxf ignores NaN.
template <int kWidth, typename Pack>
__device__ float largest_of(const Pack& pack) {
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) largest = fmaxf(largest, fabsf(pack[i]));
    return largest;
}

/// Fp8Rows as kernels write them.
struct F8Output {
    uint8_t* values;  ///< [rows, width]
    float* scales;
    int width;

    /// Writes kWidth numbers of a row from `column` on; `scale` is the row's.
    template <int kWidth, typename Pack>
    __device__ void store(int64_t row, int column, const Fp8Scale& scale, const Pack& pack) const {
        store_f8<kWidth>(values + row * width + column, [&](int i) { return pack[i] * scale.inverse; });
    }
};
inline F8Output f8_output(const Fp8Rows& rows) {
    return {reinterpret_cast<uint8_t*>(rows.values.data<F8E4M3>()), rows.scales.data<float>(),
            static_cast<int>(rows.width())};
}
/// Whether every row can be written eight numbers at a time.
inline bool allows_f8_vectors(const Fp8Rows& rows) {
    return rows.width() % 8 == 0 && reinterpret_cast<uintptr_t>(rows.values.bytes()) % 8 == 0;
}

}  // namespace pastur
