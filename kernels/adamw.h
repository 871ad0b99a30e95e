#pragma once
// AdamW (Loshchilov & Hutter, arXiv 1711.05101) with gradient clipping by global norm folded in.
#include "kernels/base/context.h"

namespace pastur {

struct AdamwParams {
    float lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
    int64_t step = 1;    ///< counted from 1, for the bias corrections
    float max_norm = 0;  ///< gradients are scaled by min(1, max_norm / norm); 0: no clipping
};

/// With g = grad min(1, max_norm / sqrt(grad_sum_squares)):
///     m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
///     param -= lr (mhat / (sqrt(vhat) + eps) + weight_decay param), mhat = m / (1 - beta1^step), vhat
///     likewise; compute = param, rounded to bf16.
/// param, m, v, grad f32 [n]; compute bf16 [n] or empty. sums f64 [1 ...] on the device, so that no step
/// waits for the host: the first is grad_sum_squares, and where any of them is not finite nothing is changed.
/// (A loss may overflow where its gradient does not.)
void adamw_step(Context& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params);

void adamw_step(CpuContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params);

#if defined(PASTUR_HAVE_CUDA)
void adamw_step(CudaContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params);
#endif

}  // namespace pastur
