#pragma once
// A linear layer of whose outputs the first are heads that carry positions: matmul.h's and rope.h's ops, or,
// where a device has one for the sizes, a kernel that does both and moves less memory (bf16 on Hopper, heads
// of 64 columns).
#include "kernels/context.h"

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

#if defined(PASTUR_HAVE_CUDA)
bool has_linear_rope(CudaContext& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w,
                     const HeadRotation& rotation);
void linear_rope_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w,
                         const HeadRotation& rotation);
#endif

}  // namespace pastur
