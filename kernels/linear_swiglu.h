#pragma once
// A linear layer and SwiGLU one after the other: matmul.h's and swiglu.h's ops, or, where a device has one
// for the sizes, a kernel that does both and moves less memory (bf16 on Hopper, x or dy of 705 columns and
// more). Sums are fp32 in one order, so that runs repeat to the bit; between the two ops numbers round to
// their dtype on every path.
#include "kernels/context.h"

namespace pastur {

/// gu [N, 2F] = x W^T, out [N, F] = silu(gate) up of [gate | up] = gu. x [N, K], w [2F, K]. One dtype, f32 or
/// bf16; rows of x may be strided, all else is contiguous.
void linear_swiglu_forward(Context& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w);

/// dgu [N, 2F] = the gradient of gu, of which forward made an out, y = out W^T and dy [N, K] is the gradient
/// of y. w [K, F]. dgu may be gu. Unless empty, out [N, F] = what forward gave. dout [N, F] is scratch, and
/// may be out. Dtypes and strides as forward.
void linear_swiglu_backward(Context& ctx, Tensor dgu, Tensor out, Tensor dout, ConstTensor dy, ConstTensor w,
                            ConstTensor gu);

#if defined(PASTUR_HAVE_CUDA)
/// Whether there is such a kernel for x (or dy) and w.
bool has_linear_swiglu(CudaContext& ctx, const ConstTensor& x, const ConstTensor& w, const ConstTensor& gu);
void linear_swiglu_forward(CudaContext& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w);
void linear_swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dy, ConstTensor w,
                            ConstTensor gu);
#endif

}  // namespace pastur
