#pragma once
// Linear layers whose operands are rounded to e4m3 (tensor.h), each row by a scale of its own: the products
// of x [N, I] with y [N, O] in matmul.h at about twice the rate where there are tensor cores for it. The
// scales leave the sum, y[n, o] = sx[n] sw[o] sum_i qx[n, i] qw[o, i], so that one outlier costs its own row
// alone. Gradients of weights sum over tokens, in which the scales of rows would stay: their operands are
// rounded by columns instead, dw[o, i] = sdy[o] sx[i] sum_n qdy[n, o] qx[n, i].
#include "kernels/base/context.h"
#include "kernels/fp8_rows.h"

namespace pastur {

/// Whether the products below take a matrix [O, I]: both are multiples of 16.
constexpr bool fp8_takes(int64_t out, int64_t in) {
    return out % 16 == 0 && in % 16 == 0;
}

/// Whether they write such a y or dx: its rows begin at multiples of 16 bytes.
bool fp8_writes(const ConstTensor& y);

/// scales[n] = max_i |x[n, i]| / 448 and values = x / scales, rounded to nearest, ties to even. A row that
/// holds NaN or infinity gives NaN. x [N, I] f32 or bf16, rows may be strided.
void quantize_rows(Context& ctx, const Fp8Rows& out, ConstTensor x);

/// The rows of x^T, rounded so: x as above, out [I, N].
void quantize_columns(Context& ctx, const Fp8Rows& out, ConstTensor x);

/// y[n, o] = sum_i x[n, i] w[o, i] (+ residual[n, o]); y and residual as in matmul.h. On a GPU the partial
/// sums have fewer bits than fp32 (cuBLASLt's fast accumulation): forward's numbers are rounded to 4 bits.
void linear_forward(Context& ctx, Tensor y, const ConstFp8Rows& x, const ConstFp8Rows& w,
                    ConstTensor residual = {});
/// The same of x [N, I] f32 or bf16, which is quantised on the way into scratch.
void linear_forward(Context& ctx, Tensor y, ConstTensor x, const ConstFp8Rows& w, ConstTensor residual = {});

/// dx[n, i] = or += sum_o dy[n, o] w[o, i], given the quantised columns of w [I, O]; fp32 sums.
void linear_backward_input(Context& ctx, Tensor dx, const ConstFp8Rows& dy, const ConstFp8Rows& w_columns,
                           Update update);
/// The same of dy [N, O] f32 or bf16, which is quantised on the way into scratch.
void linear_backward_input(Context& ctx, Tensor dx, ConstTensor dy, const ConstFp8Rows& w_columns,
                           Update update);

/// dw [O, I] = or += sum_n dy[n, o] x[n, i], given the quantised columns of dy [O, N] and x [I, N]; dw f32,
/// fp32 sums.
void linear_backward_weight(Context& ctx, Tensor dw, const ConstFp8Rows& dy_columns,
                            const ConstFp8Rows& x_columns, Update update);
/// The same of dy [N, O] and x [N, I], f32 or bf16, which are quantised on the way into scratch.
void linear_backward_weight_in_fp8(Context& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update);
/// That scratch, for N = rows.
int64_t fp8_weight_gradient_scratch_bytes(Context& ctx, int64_t rows, int64_t out, int64_t in);

/// Scratch that y [rows, out] from x [rows, in] takes from ctx.scratch(), x being rounded already or not; or
/// dx from dy, `in` being the width of dy.
int64_t fp8_linear_scratch_bytes(Context& ctx, int64_t rows, int64_t out, int64_t in, bool rounded);

/// Whether ctx's device multiplies e4m3 numbers of a scale a row; the CPU does it in fp32.
bool has_fp8(Context& ctx);

/// y = x w^T (+ addend), the product behind both.
struct Fp8Product {
    Tensor y;
    ConstFp8Rows x, w;
    ConstTensor addend;  ///< or empty
    bool fast_sums;
};

void quantize_rows(CpuContext& ctx, const Fp8Rows& out, ConstTensor x);
void quantize_columns(CpuContext& ctx, const Fp8Rows& out, ConstTensor x);
void multiply(CpuContext& ctx, const Fp8Product& product);
int64_t fp8_product_scratch_bytes(CpuContext& ctx, int64_t rows, int64_t out, int64_t in);
bool has_fp8(CpuContext& ctx);

#if defined(PASTUR_HAVE_CUDA)
void quantize_rows(CudaContext& ctx, const Fp8Rows& out, ConstTensor x);
void quantize_columns(CudaContext& ctx, const Fp8Rows& out, ConstTensor x);
void multiply(CudaContext& ctx, const Fp8Product& product);
int64_t fp8_product_scratch_bytes(CudaContext& ctx, int64_t rows, int64_t out, int64_t in);
bool has_fp8(CudaContext& ctx);
#endif

}  // namespace pastur
