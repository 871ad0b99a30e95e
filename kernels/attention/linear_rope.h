#pragma once
// A linear layer whose first outputs are heads with rotary position embedding: the ops of matmul.h and
// rope.h, or one fused GEMM+RoPE kernel that moves less memory (bf16 on Hopper, heads of 64 or 128 columns).
#include <string>

#include "kernels/base/context.h"

namespace pastur {

/// Rotates the first `heads` heads, each of table.size(1) columns: row n by position n % sequence.
/// table: f32 [>= sequence, head width] from rope_table (rope.h), contiguous.
struct HeadRotation {
    ConstTensor table;
    int64_t heads, sequence;
};

/// y [N, O] = x W^T, then rotated (rope.h, kForward); x [N, I], w [O, I]; dtypes and strides as in
/// linear_forward. N is a multiple of rotation.sequence. Between the two ops numbers are rounded to their
/// dtype on every path.
void linear_rope_forward(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, const HeadRotation& rotation);

/// Whether ctx's device has a fused kernel for these tensors.
bool has_linear_rope(Context& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w,
                     const HeadRotation& rotation);

/// Whether the fused kernel supports w [outputs, in] and heads of `head` columns.
inline constexpr int64_t kFewestRotatingColumns = 705, kRotatingTile = 256;
constexpr bool linear_rope_takes(int64_t in, int64_t outputs, int64_t head) {
    const int64_t columns = (outputs + kRotatingTile - 1) / kRotatingTile * kRotatingTile;
    return in >= kFewestRotatingColumns && in % 8 == 0 && outputs % 8 == 0 && (head == 64 || head == 128) &&
           outputs * 100 >= columns * 95;  // at most 5 % of the tiles' columns are padding
}
/// A sentence for the user if ctx's device has fused kernels but none for these widths; otherwise empty.
std::string linear_rope_fallback(Context& ctx, DType dtype, int64_t in, int64_t outputs, int64_t head);

#if defined(PASTUR_HAVE_CUDA)
/// Whether the device has fused kernels for this dtype.
bool has_linear_rope(CudaContext& ctx, DType dtype);
bool has_linear_rope(CudaContext& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w,
                     const HeadRotation& rotation);
void linear_rope_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w,
                         const HeadRotation& rotation);
#endif

}  // namespace pastur
