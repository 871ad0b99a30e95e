#pragma once
#include "kernels/context.h"

namespace pastur {

/// linear_forward with a residual (matmul.h), for bf16 on Hopper where it pays: false where it does not, and
/// nothing is done.
bool linear_residual_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual);

}  // namespace pastur
