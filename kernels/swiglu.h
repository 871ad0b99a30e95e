#pragma once
// SwiGLU gate (Shazeer, arXiv 2002.05202) on the fused projection [gate | up].
#include "kernels/base/context.h"
#include "kernels/fp8_rows.h"

namespace pastur {

/// out[n, f] = silu(gu[n, f]) gu[n, F + f], silu(x) = x / (1 + e^-x). gu [N, 2F], out [N, F]; f32 or bf16;
/// contiguous. Unless empty, quantized = quantize_rows (fp8.h) of out, bit for bit, without a second read of
/// out.
void swiglu_forward(Context& ctx, Tensor out, ConstTensor gu, const Fp8Rows& quantized = {});

/// With s = sigmoid(gate): dgate = dout up s (1 + gate (1 - s)); dup = dout silu(gate). dgu [N, 2F] =; it may
/// be gu. Unless empty, out [N, F] = the output of swiglu_forward, bit for bit; it may be dout. Writing it
/// here costs one write; recomputing it separately would also read gu. Unless empty, quantized =
/// quantize_rows of dgu.
void swiglu_backward(Context& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& quantized = {});

void swiglu_forward(CpuContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& quantized);
void swiglu_backward(CpuContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& quantized);

#if defined(PASTUR_HAVE_CUDA)
void swiglu_forward(CudaContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& quantized);
void swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& quantized);
#endif

}  // namespace pastur
