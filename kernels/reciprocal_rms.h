#pragma once
// The factor of RMS normalisation, computed alike on every backend.
#include <cfloat>
#include <cmath>

#include "kernels/base/host_device.h"

namespace pastur {

/// (mean_square + eps)^(-1/2). NaN where the mean square has overflowed: 1 / inf is 0, and a row of zeros
/// would hide the overflow from everything after it.
PASTUR_HOST_DEVICE inline float reciprocal_rms(float mean_square, float eps) {
    const float rms = sqrtf(mean_square + eps);
    return rms <= FLT_MAX ? 1.0f / rms : NAN;
}

}  // namespace pastur
