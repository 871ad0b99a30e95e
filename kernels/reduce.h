#pragma once
// Sums in a fixed order, accumulated in double: the same bits on every run.
#include "kernels/context.h"

namespace pastur {

/// sum f64 [1] = or += sum x. x f32 or bf16, contiguous.
void sum(Context& ctx, Tensor sum, ConstTensor x, Update update);

/// sum f64 [1] = or += sum x^2. A non-finite element makes the result non-finite.
void sum_of_squares(Context& ctx, Tensor sum, ConstTensor x, Update update);

/// Scratch either takes from ctx.scratch().
int64_t sum_scratch_bytes(Context& ctx, int64_t count);

void sum(CpuContext& ctx, Tensor sum, ConstTensor x, Update update);
void sum_of_squares(CpuContext& ctx, Tensor sum, ConstTensor x, Update update);
int64_t sum_scratch_bytes(CpuContext& ctx, int64_t count);

#if defined(PASTUR_HAVE_CUDA)
void sum(CudaContext& ctx, Tensor sum, ConstTensor x, Update update);
void sum_of_squares(CudaContext& ctx, Tensor sum, ConstTensor x, Update update);
int64_t sum_scratch_bytes(CudaContext& ctx, int64_t count);
#endif

}  // namespace pastur
