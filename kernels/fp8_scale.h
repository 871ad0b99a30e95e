#pragma once
// The scale of a row of e4m3 numbers, the same bits on every backend.
#include "kernels/base/host_device.h"
#include "kernels/base/tensor.h"

namespace pastur {

struct Fp8Scale {
    float scale, inverse;  ///< x = value scale, value = x inverse

    /// Of a row whose largest absolute value this is. Of rows below 2^-100 nothing need be left, but the
    /// inverse must be finite. An infinite one makes its own row NaN: 0 inf, and 448 inf.
    PASTUR_HOST_DEVICE explicit Fp8Scale(float largest) {
        const float bounded = largest > 0x1p-100f ? largest : 0x1p-100f;
        scale = bounded / kLargestF8E4M3;
        inverse = kLargestF8E4M3 / bounded;
    }
};

}  // namespace pastur
