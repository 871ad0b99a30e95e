#pragma once
// Constants, counter-based random numbers, and conversion between f32 and bf16.
#include "kernels/base/context.h"

namespace pastur {

/// x = value. f32, bf16 or f64, contiguous.
void fill(Context& ctx, Tensor x, float value);

/// x[i] = a uniform number in (0, 1] that depends only on (seed, stream, i): Philox4x32-10 (base/philox.h)
/// with cuRAND's conventions (key = seed, counter = i / 4, subsequence = stream). Bit-identical on both
/// backends. x f32, contiguous.
void fill_uniform(Context& ctx, Tensor x, uint64_t seed, uint64_t stream);

/// x[i] = mean + stddev z with z ~ N(0, 1) by the Box-Muller transform of the numbers of fill_uniform. The
/// backends agree to rounding. x f32, contiguous.
void fill_normal(Context& ctx, Tensor x, float mean, float stddev, uint64_t seed, uint64_t stream);

/// y = x, each f32 or bf16 (rounded to nearest, ties to even), with the same number of elements; contiguous.
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
