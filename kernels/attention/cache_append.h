#pragma once
// Writes the newest token of each sequence into a decoder's cache.
#include "kernels/base/context.h"

namespace pastur {

/// With p = positions[b]: cache[b, p / stride, :] = x[b, :]. With `summed`, += unless p is a multiple of stride, that
/// is, unless the token is the first of its slot. cache [B, S, W], x [B, W], both f32 or both bf16 with unit stride in
/// the last dimension; positions i32 [B], contiguous, each in [0, S stride).
void cache_append(Context& ctx, Tensor cache, ConstTensor x, ConstTensor positions, int64_t stride,
                  bool summed);

void cache_append(CpuContext& ctx, Tensor cache, ConstTensor x, ConstTensor positions, int64_t stride,
                  bool summed);
#if defined(PASTUR_HAVE_CUDA)
void cache_append(CudaContext& ctx, Tensor cache, ConstTensor x, ConstTensor positions, int64_t stride,
                  bool summed);
#endif

}  // namespace pastur
