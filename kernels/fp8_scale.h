#pragma once
// The scale of a row of e4m3 numbers, bit-identical on every backend.
#include "kernels/base/host_device.h"
#include "kernels/base/tensor.h"

namespace pastur {

struct Fp8Scale {
    float scale, inverse;  ///< x = value scale, value = x inverse

    /// `largest` is the largest absolute value of the row. It is raised to 2^-100, which keeps the inverse
    /// finite; smaller numbers may become 0. An infinite `largest` gives NaN for the whole row: its
    /// infinities are quantised as inf 0 = NaN, and the other numbers as 0 with an infinite scale.
    PASTUR_HOST_DEVICE explicit Fp8Scale(float largest) {
        const float bounded = largest > 0x1p-100f ? largest : 0x1p-100f;
        scale = bounded / kLargestF8E4M3;
        inverse = kLargestF8E4M3 / bounded;
    }
};

}  // namespace pastur
