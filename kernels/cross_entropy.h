#pragma once
// Softmax cross-entropy of logits against token ids, in nats.
#include "kernels/base/context.h"

namespace pastur {

/// losses[n] = log sum_v exp logits[n, v] - logits[n, targets[n]].
/// logits [N, V] f32 or bf16, contiguous; targets i32 [N], each in [0, V), or negative: the row is ignored and
/// its loss is 0, whatever its logits are. losses f32 [N], =. A NaN or +inf among the logits of another row makes its
/// loss NaN; -inf is a logit of probability 0.
void cross_entropy_forward(Context& ctx, Tensor losses, ConstTensor logits, ConstTensor targets);

/// losses as in cross_entropy_forward. logits become their own gradient, times `scale`:
///     logits[n, v] = scale (softmax(logits[n])[v] - [v = targets[n]]), or 0 where targets[n] is negative.
/// This reads and writes the logits once and needs no second buffer of their size.
void cross_entropy_forward_backward(Context& ctx, Tensor losses, Tensor logits, ConstTensor targets,
                                    float scale);

void cross_entropy_forward(CpuContext& ctx, Tensor losses, ConstTensor logits, ConstTensor targets);
void cross_entropy_forward_backward(CpuContext& ctx, Tensor losses, Tensor logits, ConstTensor targets,
                                    float scale);

#if defined(PASTUR_HAVE_CUDA)
void cross_entropy_forward(CudaContext& ctx, Tensor losses, ConstTensor logits, ConstTensor targets);
void cross_entropy_forward_backward(CudaContext& ctx, Tensor losses, Tensor logits, ConstTensor targets,
                                    float scale);
#endif

}  // namespace pastur
