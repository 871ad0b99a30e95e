#pragma once
// Token embedding: rows of a table by token id.
#include "kernels/base/context.h"

namespace pastur {

/// out[n, :] = table[ids[n], :].
/// ids i32 [N], each in [0, V), which the data loader guarantees; table [V, C] f32 or bf16; out [N, C] of the
/// table's dtype, =.
void embedding_forward(Context& ctx, Tensor out, ConstTensor table, ConstTensor ids);

/// dtable[v, :] = or += sum over n with ids[n] = v of dout[n, :], added in ascending n on every device: the
/// CUDA backend sorts (id, n) instead of using float atomics, so reruns are bit-identical. dtable f32 [V, C];
/// dout [N, C] f32 or bf16; ids i32 [N]. kAssign also clears the rows of ids that do not occur.
void embedding_backward(Context& ctx, Tensor dtable, ConstTensor dout, ConstTensor ids, Update update);

/// Bytes that embedding_backward takes from ctx.scratch() for N = tokens and V = vocab.
int64_t embedding_backward_scratch_bytes(Context& ctx, int64_t tokens, int64_t vocab);

void embedding_forward(CpuContext& ctx, Tensor out, ConstTensor table, ConstTensor ids);
void embedding_backward(CpuContext& ctx, Tensor dtable, ConstTensor dout, ConstTensor ids, Update update);
int64_t embedding_backward_scratch_bytes(CpuContext& ctx, int64_t tokens, int64_t vocab);

#if defined(PASTUR_HAVE_CUDA)
void embedding_forward(CudaContext& ctx, Tensor out, ConstTensor table, ConstTensor ids);
void embedding_backward(CudaContext& ctx, Tensor dtable, ConstTensor dout, ConstTensor ids, Update update);
int64_t embedding_backward_scratch_bytes(CudaContext& ctx, int64_t tokens, int64_t vocab);
#endif

}  // namespace pastur
