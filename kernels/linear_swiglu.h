#pragma once
// A linear layer and SwiGLU one after the other: matmul.h's and swiglu.h's ops, or, where a device has one
// for the sizes, a kernel that does both and moves less memory (bf16 on Hopper, x or dy of 705 columns and
// more). Sums are fp32 in one order, so that runs repeat to the bit; between the two ops numbers round to
// their dtype on every path.
#include <string>

#include "kernels/base/context.h"

namespace pastur {

/// gu [N, 2F] = x W^T, out [N, F] = silu(gate) up of [gate | up] = gu. x [N, K], w [2F, K]. One dtype, f32 or
/// bf16; rows of x may be strided, all else is contiguous.
void linear_swiglu_forward(Context& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w);

/// dgu [N, 2F] = the gradient of gu, of which forward made an out, y = out W^T and dy [N, K] is the gradient
/// of y. w [K, F]. dgu may be gu. Unless empty, out [N, F] = what forward gave. dout [N, F] is scratch, and
/// may be out. Dtypes and strides as forward.
void linear_swiglu_backward(Context& ctx, Tensor dgu, Tensor out, Tensor dout, ConstTensor dy, ConstTensor w,
                            ConstTensor gu);

/// The widths K and F that such a kernel takes.
inline constexpr int64_t kFewestGatedColumns = 705;
constexpr bool linear_swiglu_takes(int64_t in, int64_t ffn) {
    return in >= kFewestGatedColumns && in % 8 == 0 && ffn % 8 == 0;
}
/// Why layers of these widths and this dtype are left to two ops where others are not on ctx's device: a
/// sentence, or empty where none is.
std::string linear_swiglu_fallback(Context& ctx, DType dtype, int64_t in, int64_t ffn);

#if defined(PASTUR_HAVE_CUDA)
/// Whether ctx's device has such kernels at all.
bool has_linear_swiglu(CudaContext& ctx, DType dtype);
/// Whether there is one for x (or dy) and w.
bool has_linear_swiglu(CudaContext& ctx, const ConstTensor& x, const ConstTensor& w, const ConstTensor& gu);
void linear_swiglu_forward(CudaContext& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w);
void linear_swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dy, ConstTensor w,
                            ConstTensor gu);
#endif

}  // namespace pastur
