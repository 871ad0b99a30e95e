#pragma once
// Activations as a matrix with one row per token, for the covariance of its columns.
#include "kernels/base/context.h"

namespace pastur {

/// out f32 [B T, heads width], rows may be strided, = x [B, T, heads, width], f32 or bf16: unit stride in the last
/// dimension, any other strides.
void flatten_heads(Context& ctx, Tensor out, ConstTensor x);

/// x f32 [N, W], contiguous: each column minus its mean. Means are fp64 sums in a fixed order.
void center_columns(Context& ctx, Tensor x);

void flatten_heads(CpuContext& ctx, Tensor out, ConstTensor x);
void center_columns(CpuContext& ctx, Tensor x);
#if defined(PASTUR_HAVE_CUDA)
void flatten_heads(CudaContext& ctx, Tensor out, ConstTensor x);
void center_columns(CudaContext& ctx, Tensor x);
#endif

}  // namespace pastur
