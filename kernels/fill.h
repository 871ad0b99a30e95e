#pragma once
// Constants, counter-based random numbers, and the one dtype conversion.
#include "kernels/base/context.h"

namespace pastur {

/// x = value. f32, bf16 or f64, contiguous.
void fill(Context& ctx, Tensor x, float value);

/// Element i of x is a function of (seed, stream, i) alone: Philox4x32-10 (Salmon et al., SC 2011) under
/// cuRAND's convention (key = seed, counter = i / 4, subsequence = stream), so uniforms are bit-equal on both
/// backends and normals (Box-Muller over the four uniforms) agree to rounding. x f32, contiguous; uniforms
/// lie in (0, 1].
void fill_uniform(Context& ctx, Tensor x, uint64_t seed, uint64_t stream);

/// As fill_uniform, with mean + stddev * N(0, 1).
void fill_normal(Context& ctx, Tensor x, float mean, float stddev, uint64_t seed, uint64_t stream);

/// y = x converted between f32 and bf16 (round to nearest even), same number of elements, contiguous.
void cast(Context& ctx, Tensor y, ConstTensor x);

void fill(CpuContext& ctx, Tensor x, float value);
void fill_uniform(CpuContext& ctx, Tensor x, uint64_t seed, uint64_t stream);
void fill_normal(CpuContext& ctx, Tensor x, float mean, float stddev, uint64_t seed, uint64_t stream);
void cast(CpuContext& ctx, Tensor y, ConstTensor x);

#if defined(PASTUR_HAVE_CUDA)
void fill(CudaContext& ctx, Tensor x, float value);
void fill_uniform(CudaContext& ctx, Tensor x, uint64_t seed, uint64_t stream);
void fill_normal(CudaContext& ctx, Tensor x, float mean, float stddev, uint64_t seed, uint64_t stream);
void cast(CudaContext& ctx, Tensor y, ConstTensor x);
#endif

}  // namespace pastur
