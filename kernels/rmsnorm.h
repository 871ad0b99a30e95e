#pragma once
// RMS normalisation (Zhang & Sennrich, arXiv 1910.07467), over the last dimension.
#include "kernels/base/context.h"
#include "kernels/fp8_rows.h"

namespace pastur {

/// rstd[n] = (mean_c x[n, c]^2 + eps)^(-1/2);  out[n, c] = x[n, c] rstd[n] weight[c].
/// x, out [N, C] f32 or bf16 (rows may be strided); rstd f32 [N], =; weight f32 [C]. Unless empty,
/// rounded = what quantize_rows (fp8.h) makes of out, the same bits, without reading it again.
/// A row whose mean square is not finite in fp32, by overflow or by a non-finite x, makes its rstd and out NaN.
void rmsnorm_forward(Context& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& rounded = {});

/// With xhat = x rstd and g = weight * dy:
///     dx = dresidual + (g - xhat mean_c(xhat g)) rstd;   dweight[c] = or += sum_n dy[n, c] xhat[n, c].
/// The residual stream's own gradient is added here, in fp32 before the one rounding, so that no separate
/// addition reads and writes the stream again. dresidual may be dx itself, or empty (then dx =). Unless
/// empty, out = what forward gave, the same bits, for one more write where recomputing it apart reads x
/// again; it may be dy. rounded as in forward, of dx.
/// dx, out, dy, x, dresidual [N, C] of one dtype (rows may be strided); dweight f32 [C], by fixed-order
/// partial sums.
void rmsnorm_backward(Context& ctx, Tensor dx, Tensor dweight, Tensor out, ConstTensor dy, ConstTensor x,
                      ConstTensor rstd, ConstTensor weight, ConstTensor dresidual, Update dweight_update,
                      const Fp8Rows& rounded = {});

/// Scratch rmsnorm_backward takes from ctx.scratch() for [rows, width].
int64_t rmsnorm_backward_scratch_bytes(Context& ctx, int64_t rows, int64_t width);

void rmsnorm_forward(CpuContext& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& rounded);
void rmsnorm_backward(CpuContext& ctx, Tensor dx, Tensor dweight, Tensor out, ConstTensor dy, ConstTensor x,
                      ConstTensor rstd, ConstTensor weight, ConstTensor dresidual, Update dweight_update,
                      const Fp8Rows& rounded);
int64_t rmsnorm_backward_scratch_bytes(CpuContext& ctx, int64_t rows, int64_t width);

#if defined(PASTUR_HAVE_CUDA)
void rmsnorm_forward(CudaContext& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& rounded);
void rmsnorm_backward(CudaContext& ctx, Tensor dx, Tensor dweight, Tensor out, ConstTensor dy, ConstTensor x,
                      ConstTensor rstd, ConstTensor weight, ConstTensor dresidual, Update dweight_update,
                      const Fp8Rows& rounded);
int64_t rmsnorm_backward_scratch_bytes(CudaContext& ctx, int64_t rows, int64_t width);
#endif

}  // namespace pastur
