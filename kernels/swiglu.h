#pragma once
// SwiGLU gate (Shazeer, arXiv 2002.05202) on the fused projection [gate | up].
#include "kernels/base/context.h"
#include "kernels/fp8_rows.h"

namespace pastur {

/// out[n, f] = silu(gu[n, f]) gu[n, F + f], silu(x) = x / (1 + e^-x). gu [N, 2F], out [N, F]; f32 or bf16;
/// contiguous. Unless empty, rounded = what quantize_rows (fp8.h) makes of out, the same bits, without
/// reading it again.
void swiglu_forward(Context& ctx, Tensor out, ConstTensor gu, const Fp8Rows& rounded = {});

/// With s = sigmoid(gate): dgate = dout up s (1 + gate (1 - s)); dup = dout silu(gate). dgu [N, 2F] =, may be
/// gu. Unless empty, out [N, F] = what forward gave, the same bits, for one more write where recomputing it
/// apart reads gu again; it may be dout. rounded as in forward, of dgu.
void swiglu_backward(Context& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& rounded = {});

void swiglu_forward(CpuContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& rounded);
void swiglu_backward(CpuContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& rounded);

#if defined(PASTUR_HAVE_CUDA)
void swiglu_forward(CudaContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& rounded);
void swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& rounded);
#endif

}  // namespace pastur
