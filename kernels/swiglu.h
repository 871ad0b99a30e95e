#pragma once
// SwiGLU gate (Shazeer, arXiv 2002.05202) on the fused projection [gate | up].
#include "kernels/context.h"

namespace pastur {

/// out[n, f] = silu(gu[n, f]) gu[n, F + f], silu(x) = x / (1 + e^-x). gu [N, 2F], out [N, F]; f32 or bf16;
/// contiguous.
void swiglu_forward(Context& ctx, Tensor out, ConstTensor gu);

/// With s = sigmoid(gate): dgate = dout up s (1 + gate (1 - s)); dup = dout silu(gate). dgu [N, 2F] =, may be
/// gu. Unless empty, out [N, F] = what forward gave, the same bits, for one more write where recomputing it
/// apart reads gu again; it may be dout.
void swiglu_backward(Context& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu);

void swiglu_forward(CpuContext& ctx, Tensor out, ConstTensor gu);
void swiglu_backward(CpuContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu);

#if defined(PASTUR_HAVE_CUDA)
void swiglu_forward(CudaContext& ctx, Tensor out, ConstTensor gu);
void swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu);
#endif

}  // namespace pastur
