#pragma once
// Linear layers without bias. Weights are [out, in], so y = x W^T. Accumulation is fp32 on every path.
#include "kernels/base/context.h"

namespace pastur {

/// y[n, o] = sum_i x[n, i] w[o, i] (+ residual[n, o], added before the one rounding; y may be residual). x
/// [N, I], w [O, I], y [N, O], residual [N, O] or empty; all f32 or all bf16. Rows of x, y and residual may
/// be strided; w is contiguous. f32 operands are multiplied in fp32, not TF32.
void linear_forward(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual = {});

/// dx[n, i] = or += sum_o dy[n, o] w[o, i].
void linear_backward_input(Context& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update);

/// dw[o, i] = or += sum_n dy[n, o] x[n, i]. dw f32 [O, I], contiguous; dy and x are both f32 or both bf16.
void linear_backward_weight(Context& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update);

void linear_forward(CpuContext& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual);
void linear_backward_input(CpuContext& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update);
void linear_backward_weight(CpuContext& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update);

#if defined(PASTUR_HAVE_CUDA)
void linear_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual);
void linear_backward_input(CudaContext& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update);
void linear_backward_weight(CudaContext& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update);
#endif

}  // namespace pastur
