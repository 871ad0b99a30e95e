#pragma once
// Sums in a fixed order, accumulated in double, so reruns are bit-identical.
#include "kernels/base/context.h"

namespace pastur {

/// sum f64 [1] = or += sum x. x f32, bf16 or f64, contiguous. Zeros appended to an f64 x do not change any
/// bit.
void sum(Context& ctx, Tensor sum, ConstTensor x, Update update);

/// sum f64 [1] = or += sum x^2. A non-finite element makes the result non-finite.
void sum_of_squares(Context& ctx, Tensor sum, ConstTensor x, Update update);

/// Number of elements in one partial sum of piece_sums_of_squares().
inline constexpr int64_t kSumPiece = 1024;
/// sums f64 [n / kSumPiece] = the sum of x^2 over each run of kSumPiece elements. x f32 [n], n a multiple of
/// kSumPiece. The bits of their sum() do not depend on how ranks divide the pieces among them.
void piece_sums_of_squares(Context& ctx, Tensor sums, ConstTensor x);

/// y = or += the rows of x in ascending order, in fp32: ((y + x_0) + x_1) + ... y f32 [n], x f32 or bf16
/// [rows, n].
void sum_rows(Context& ctx, Tensor y, ConstTensor x, Update update);

/// Bytes that sum() and sum_of_squares() take from ctx.scratch() for `count` elements.
int64_t sum_scratch_bytes(Context& ctx, int64_t count);

void sum(CpuContext& ctx, Tensor sum, ConstTensor x, Update update);
void sum_of_squares(CpuContext& ctx, Tensor sum, ConstTensor x, Update update);
void piece_sums_of_squares(CpuContext& ctx, Tensor sums, ConstTensor x);
void sum_rows(CpuContext& ctx, Tensor y, ConstTensor x, Update update);
int64_t sum_scratch_bytes(CpuContext& ctx, int64_t count);

#if defined(PASTUR_HAVE_CUDA)
void sum(CudaContext& ctx, Tensor sum, ConstTensor x, Update update);
void sum_of_squares(CudaContext& ctx, Tensor sum, ConstTensor x, Update update);
void piece_sums_of_squares(CudaContext& ctx, Tensor sums, ConstTensor x);
void sum_rows(CudaContext& ctx, Tensor y, ConstTensor x, Update update);
int64_t sum_scratch_bytes(CudaContext& ctx, int64_t count);
#endif

}  // namespace pastur
