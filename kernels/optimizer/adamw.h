#pragma once
// AdamW (Loshchilov & Hutter, arXiv 1711.05101) with gradient clipping by global norm folded in.
#include <cfloat>
#include <cmath>

#include "kernels/base/context.h"
#include "kernels/base/host_device.h"
#include "kernels/optimizer/stochastic_rounding.h"

namespace pastur {

/// Settings of one update.
struct AdamwParams {
    float lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
    int64_t step = 1;              ///< counts from 1; decides the bias correction
    float max_norm = 0;            ///< gradients are scaled by min(1, max_norm / norm); 0: no clipping
    RoundingParams rounding = {};  ///< of param, m and v where they are bf16
};

/// Whether adamw_step updates anything, given these sums: all are finite, and no square of a clipped gradient
/// can overflow fp32. An infinite v would freeze its parameter for the rest of the run, because m / sqrt(inf)
/// is 0.
PASTUR_HOST_DEVICE inline bool adamw_accepts(const double* sums, int64_t count, float max_norm) {
    constexpr double kLargestSquares = 0x1p127;  // FLT_MAX / 2, which leaves room for the bias correction
    for (int64_t i = 0; i < count; ++i)
        if (!(fabs(sums[i]) <= DBL_MAX)) return false;
    const double clipped = max_norm > 0 ? fmin(sums[0], static_cast<double>(max_norm) * max_norm) : sums[0];
    return clipped <= kLargestSquares;
}

/// min(1, max_norm / sqrt(grad_sum_squares)); max_norm 0: no clipping.
PASTUR_HOST_DEVICE inline float clip_factor(double grad_sum_squares, float max_norm) {
    const double norm = sqrt(grad_sum_squares);
    return max_norm > 0 && norm > max_norm ? static_cast<float>(max_norm / norm) : 1.0f;
}

/// With g = grad clip_factor(sums[0], max_norm):
///     m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
///     mhat = m / (1 - beta1^step);  vhat = v / (1 - beta2^step);
///     param -= lr (mhat / (sqrt(vhat) + eps) + weight_decay param);  compute = param.
/// grad f32 [n]. m and v [n] are both f32 or both bf16, and param [n] is f32 or bf16: the update is computed
/// in fp32, from the new moments before they are rounded, and each number is rounded once, when it is stored.
/// compute [n] is empty, or bf16 (param f32: rounded to nearest), or f32 (param bf16: exact). sums f64 [>= 1]
/// are on the device, so a step does not wait for the host: the sum of squares of all gradients, then any
/// other numbers that must be finite for an update, such as the loss, which can overflow where its gradient
/// does not. Nothing changes unless adamw_accepts the sums.
void adamw_step(Context& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params);

void adamw_step(CpuContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params);

#if defined(PASTUR_HAVE_CUDA)
void adamw_step(CudaContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params);
#endif

}  // namespace pastur
