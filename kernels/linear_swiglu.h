#pragma once
// A linear layer followed by SwiGLU: the ops of matmul.h and swiglu.h, or one fused GEMM+SwiGLU kernel that
// moves less memory (bf16 on Hopper, x or dy of 705 columns or more). Sums are fp32 in a fixed order, so
// reruns are bit-identical. Between the two ops numbers are rounded to their dtype on every path.
#include <string>

#include "kernels/base/context.h"

namespace pastur {

/// gu [N, 2F] = x W^T; out [N, F] = silu(gate) up with [gate | up] = gu. x [N, K], w [2F, K]. All f32 or all
/// bf16; rows of x may be strided, all other tensors are contiguous.
void linear_swiglu_forward(Context& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w);

/// Backward through SwiGLU and the linear layer y = out W^T after it, w [K, F]: dgu [N, 2F] = the gradient of
/// gu, given dy [N, K]. dgu may be gu. Unless empty, out [N, F] = the output of linear_swiglu_forward,
/// recomputed from gu. dout [N, F] is scratch and may be out. Dtypes and strides are those of
/// linear_swiglu_forward.
void linear_swiglu_backward(Context& ctx, Tensor dgu, Tensor out, Tensor dout, ConstTensor dy, ConstTensor w,
                            ConstTensor gu);

/// Whether the fused kernels support widths K = in and F = ffn.
inline constexpr int64_t kFewestGatedColumns = 705;
constexpr bool linear_swiglu_takes(int64_t in, int64_t ffn) {
    return in >= kFewestGatedColumns && in % 8 == 0 && ffn % 8 == 0;
}
/// A sentence for the user if ctx's device has fused kernels but none for these widths; otherwise empty.
std::string linear_swiglu_fallback(Context& ctx, DType dtype, int64_t in, int64_t ffn);

#if defined(PASTUR_HAVE_CUDA)
/// Whether ctx's device has fused kernels for this dtype.
bool has_linear_swiglu(CudaContext& ctx, DType dtype);
/// Whether a fused kernel supports these tensors; x may be dy.
bool has_linear_swiglu(CudaContext& ctx, const ConstTensor& x, const ConstTensor& w, const ConstTensor& gu);
void linear_swiglu_forward(CudaContext& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w);
void linear_swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dy, ConstTensor w,
                            ConstTensor gu);
#endif

}  // namespace pastur
