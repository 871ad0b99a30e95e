#pragma once
// Linear layers (matmul.h) whose operands are quantised to e4m3 (tensor.h) with one scale per row: about
// twice the rate of bf16 GEMMs on tensor cores that support fp8. Row scales factor out of the sum over
// columns,
//     y[n, o] = sx[n] sw[o] sum_i qx[n, i] qw[o, i],
// so an outlier costs precision in its own row only. Weight gradients sum over tokens, where row scales do
// not factor out. Their operands are quantised by columns: dw[o, i] = sdy[o] sx[i] sum_n qdy[n, o] qx[n, i].
#include "kernels/base/context.h"
#include "kernels/fp8_rows.h"

namespace pastur {

/// Whether fp8 GEMMs support a weight [O, I]: both sizes must be multiples of 16.
constexpr bool fp8_takes(int64_t out, int64_t in) {
    return out % 16 == 0 && in % 16 == 0;
}

/// Whether fp8 GEMMs can write y: its rows must begin at multiples of 16 bytes.
bool fp8_writes(const ConstTensor& y);

/// scales[n] = max_i |x[n, i]| / 448 and values = x / scales, rounded to nearest, ties to even. A NaN or
/// infinity in x makes any sum over its row NaN. x [N, I] f32 or bf16; rows may be strided.
void quantize_rows(Context& ctx, const Fp8Rows& out, ConstTensor x);

/// out [I, N] = quantize_rows of x^T, with x [N, I] as above.
void quantize_columns(Context& ctx, const Fp8Rows& out, ConstTensor x);

/// y[n, o] = sum_i x[n, i] w[o, i] (+ residual[n, o]); y and residual as in matmul.h. On a GPU partial sums
/// have fewer bits than fp32 (cuBLASLt's fast accumulation), which is little against operands with 4
/// significant bits.
void linear_forward(Context& ctx, Tensor y, const ConstFp8Rows& x, const ConstFp8Rows& w,
                    ConstTensor residual = {});
/// y as above from x [N, I] f32 or bf16, which is quantised into scratch.
void linear_forward(Context& ctx, Tensor y, ConstTensor x, const ConstFp8Rows& w, ConstTensor residual = {});

/// dx[n, i] = or += sum_o dy[n, o] w[o, i]; w_columns [I, O] = quantize_columns of w. Sums are fp32.
void linear_backward_input(Context& ctx, Tensor dx, const ConstFp8Rows& dy, const ConstFp8Rows& w_columns,
                           Update update);
/// dx as above from dy [N, O] f32 or bf16, which is quantised into scratch.
void linear_backward_input(Context& ctx, Tensor dx, ConstTensor dy, const ConstFp8Rows& w_columns,
                           Update update);

/// dw[o, i] = or += sum_n dy[n, o] x[n, i]; dy_columns [O, N] and x_columns [I, N] = quantize_columns of dy
/// and x. dw f32 [O, I]; sums are fp32.
void linear_backward_weight(Context& ctx, Tensor dw, const ConstFp8Rows& dy_columns,
                            const ConstFp8Rows& x_columns, Update update);
/// dw as above from dy [N, O] and x [N, I], f32 or bf16, which are quantised into scratch.
void linear_backward_weight_in_fp8(Context& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update);
/// Bytes that linear_backward_weight_in_fp8 takes from ctx.scratch() for N = rows.
int64_t fp8_weight_gradient_scratch_bytes(Context& ctx, int64_t rows, int64_t out, int64_t in);

/// Bytes that linear_forward takes from ctx.scratch() for y [rows, out] and x [rows, in], and
/// linear_backward_input for dx [rows, out] and dy [rows, in]. x_quantized: the caller passes x (or dy) as
/// Fp8Rows.
int64_t fp8_linear_scratch_bytes(Context& ctx, int64_t rows, int64_t out, int64_t in, bool x_quantized);

/// Whether ctx's device has GEMMs of e4m3 operands with row scales. The CPU emulates them in fp32.
bool has_fp8(Context& ctx);

/// y = x w^T (+ addend): the GEMM that forward and both backward passes run.
struct Fp8Gemm {
    Tensor y;
    ConstFp8Rows x, w;
    ConstTensor addend;      ///< empty: nothing is added
    bool fast_accumulation;  ///< allows partial sums with fewer bits than fp32
};

void quantize_rows(CpuContext& ctx, const Fp8Rows& out, ConstTensor x);
void quantize_columns(CpuContext& ctx, const Fp8Rows& out, ConstTensor x);
void fp8_gemm(CpuContext& ctx, const Fp8Gemm& p);
int64_t fp8_gemm_scratch_bytes(CpuContext& ctx, int64_t rows, int64_t out, int64_t in);
bool has_fp8(CpuContext& ctx);

#if defined(PASTUR_HAVE_CUDA)
void quantize_rows(CudaContext& ctx, const Fp8Rows& out, ConstTensor x);
void quantize_columns(CudaContext& ctx, const Fp8Rows& out, ConstTensor x);
void fp8_gemm(CudaContext& ctx, const Fp8Gemm& p);
int64_t fp8_gemm_scratch_bytes(CudaContext& ctx, int64_t rows, int64_t out, int64_t in);
bool has_fp8(CudaContext& ctx);
#endif

}  // namespace pastur
