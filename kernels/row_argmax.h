#pragma once
// The column of the largest number of each row: greedy decoding reads ids instead of logits from a device.
#include "kernels/base/context.h"

namespace pastur {

/// ids[n] = the lowest column of the largest x[n, :], or -1 if the row holds a NaN or +infinity, or -infinity alone. x
/// [N, V], f32 or bf16, rows may be strided; ids i32 [N], contiguous, =.
void row_argmax(Context& ctx, Tensor ids, ConstTensor x);

void row_argmax(CpuContext& ctx, Tensor ids, ConstTensor x);
#if defined(PASTUR_HAVE_CUDA)
void row_argmax(CudaContext& ctx, Tensor ids, ConstTensor x);
#endif

}  // namespace pastur
