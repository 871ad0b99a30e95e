#pragma once
// A linear layer of whose outputs the first are heads that carry positions: matmul.h's and rope.h's ops, or,
// where a device has one for the sizes, a kernel that does both and moves less memory (bf16 on Hopper, heads
// of 64 or 128 columns).
#include <string>

#include "kernels/base/context.h"

namespace pastur {

/// The first `heads` heads of table.size(1) columns each are rotated: row n by its position, n % sequence.
/// table: f32 [>= sequence, head width] as rope.h says, contiguous.
struct HeadRotation {
    ConstTensor table;
    int64_t heads, sequence;
};

/// y [N, O] = x W^T, then rotated (rope.h, kForward); x [N, I], w [O, I]; dtypes and strides as
/// linear_forward's, N a multiple of rotation.sequence. Between the two ops numbers round to their dtype on
/// every path.
void linear_rope_forward(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, const HeadRotation& rotation);

/// Whether ctx's device does that in one kernel.
bool has_linear_rope(Context& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w,
                     const HeadRotation& rotation);

/// What such a kernel takes: [outputs, in] matrices and heads of `head` columns.
inline constexpr int64_t kFewestRotatingColumns = 705, kRotatingTile = 256;
constexpr bool linear_rope_takes(int64_t in, int64_t outputs, int64_t head) {
    const int64_t columns = (outputs + kRotatingTile - 1) / kRotatingTile * kRotatingTile;
    return in >= kFewestRotatingColumns && in % 8 == 0 && outputs % 8 == 0 && (head == 64 || head == 128) &&
           outputs * 100 >= columns * 95;  // else too much is multiplied for nothing
}
/// Why a layer of these widths and this dtype is left to two ops where others are not on ctx's device: a
/// sentence, or empty where none is.
std::string linear_rope_fallback(Context& ctx, DType dtype, int64_t in, int64_t outputs, int64_t head);

#if defined(PASTUR_HAVE_CUDA)
/// Whether the device has one for some widths.
bool has_linear_rope(CudaContext& ctx, DType dtype);
bool has_linear_rope(CudaContext& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w,
                     const HeadRotation& rotation);
void linear_rope_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w,
                         const HeadRotation& rotation);
#endif

}  // namespace pastur
