#pragma once
// RMS normalisation (Zhang & Sennrich, arXiv 1910.07467), over the last dimension.
#include "kernels/base/context.h"
#include "kernels/fp8_rows.h"

namespace pastur {

/// rstd[n] = (mean_c x[n, c]^2 + eps)^(-1/2);  out[n, c] = gain x[n, c] rstd[n] weight[c].
/// x, out [N, C] f32 or bf16 (rows may be strided); rstd f32 [N], =; weight f32 [C]. Or x, out [N, H, C], any
/// strides of N and H, with rstd [N, H]: a row is a head. Unless empty, quantized
/// = quantize_rows (fp8.h) of out, bit for bit, without a second read of out. A row whose mean square is not
/// finite in fp32, by overflow or because x is not finite, makes its rstd and out NaN.
void rmsnorm_forward(Context& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& quantized = {}, float gain = 1);

/// Arguments of rmsnorm_backward. dx, dy, x, dresidual and out are [N, C] or [N, H, C] of one dtype, f32 or
/// bf16; their rows may be strided. Optional tensors are left out when empty.
struct RmsnormBackward {
    Tensor dx;       ///< =
    Tensor dweight;  ///< f32 [C], by dweight_update; partial sums have a fixed order
    Update dweight_update;
    ConstTensor dy, x;
    ConstTensor rstd;            ///< as rmsnorm_forward wrote it
    ConstTensor weight;          ///< f32 [C]
    ConstTensor dresidual = {};  ///< added to dx; may be dx itself
    float gain = 1;              ///< of rmsnorm_forward
    Tensor out = {};             ///< = the output of rmsnorm_forward, bit for bit; may be dy
    Fp8Rows quantized_dx = {};   ///< = quantize_rows (fp8.h) of dx, bit for bit
};

/// With xhat = x rstd and g = gain weight * dy:
///     dx = dresidual + (g - xhat mean_c(xhat g)) rstd;   dweight[c] = or += gain sum_n dy[n, c] xhat[n, c].
/// The gradient of the residual stream is added in fp32 before the one rounding, which saves an addition that
/// would read and write the whole stream. Writing `out` here costs one write; recomputing it separately would
/// also read x.
void rmsnorm_backward(Context& ctx, const RmsnormBackward& p);

/// Bytes that rmsnorm_backward takes from ctx.scratch() for x [rows, width] (rows = N H for heads).
int64_t rmsnorm_backward_scratch_bytes(Context& ctx, int64_t rows, int64_t width);

void rmsnorm_forward(CpuContext& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& quantized, float gain);
void rmsnorm_backward(CpuContext& ctx, const RmsnormBackward& p);
int64_t rmsnorm_backward_scratch_bytes(CpuContext& ctx, int64_t rows, int64_t width);

#if defined(PASTUR_HAVE_CUDA)
void rmsnorm_forward(CudaContext& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& quantized, float gain);
void rmsnorm_backward(CudaContext& ctx, const RmsnormBackward& p);
int64_t rmsnorm_backward_scratch_bytes(CudaContext& ctx, int64_t rows, int64_t width);
#endif

}  // namespace pastur
