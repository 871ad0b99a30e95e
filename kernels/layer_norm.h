#pragma once
// Layer normalisation (Ba et al., arXiv 1607.06450), over the last dimension.
#include "kernels/base/context.h"

namespace pastur {

/// mean[n] = mean_c x[n, c];  rstd[n] = (mean_c (x[n, c] - mean[n])^2 + eps)^(-1/2);
/// out[n, c] = (x[n, c] - mean[n]) rstd[n] weight[c] + bias[c].
/// x, out [N, C] f32 or bf16 (rows may be strided); mean, rstd f32 [N], =; weight, bias f32 [C]. A row whose
/// variance is not finite in fp32, by overflow or because x is not finite, makes its rstd and out NaN.
void layer_norm_forward(Context& ctx, Tensor out, Tensor mean, Tensor rstd, ConstTensor x, ConstTensor weight,
                        ConstTensor bias, float eps);

/// Arguments of layer_norm_backward. dx, dy and x are [N, C] of one dtype, f32 or bf16; their rows may be
/// strided.
struct LayerNormBackward {
    Tensor dx;              ///< =; may be dy
    Tensor dweight, dbias;  ///< f32 [C], by `update`; partial sums have a fixed order
    Update update;
    ConstTensor dy, x;
    ConstTensor mean, rstd;  ///< f32 [N], as layer_norm_forward wrote them
    ConstTensor weight;      ///< f32 [C]
};

/// With xhat = (x - mean) rstd and g = weight * dy:
///     dx = (g - mean_c g - xhat mean_c(xhat g)) rstd;
///     dweight[c] = or += sum_n dy[n, c] xhat[n, c];   dbias[c] = or += sum_n dy[n, c].
void layer_norm_backward(Context& ctx, const LayerNormBackward& p);

/// Bytes that layer_norm_backward takes from ctx.scratch() for x [rows, width].
int64_t layer_norm_backward_scratch_bytes(Context& ctx, int64_t rows, int64_t width);

void layer_norm_forward(CpuContext& ctx, Tensor out, Tensor mean, Tensor rstd, ConstTensor x,
                        ConstTensor weight, ConstTensor bias, float eps);
void layer_norm_backward(CpuContext& ctx, const LayerNormBackward& p);
int64_t layer_norm_backward_scratch_bytes(CpuContext& ctx, int64_t rows, int64_t width);

#if defined(PASTUR_HAVE_CUDA)
void layer_norm_forward(CudaContext& ctx, Tensor out, Tensor mean, Tensor rstd, ConstTensor x,
                        ConstTensor weight, ConstTensor bias, float eps);
void layer_norm_backward(CudaContext& ctx, const LayerNormBackward& p);
int64_t layer_norm_backward_scratch_bytes(CudaContext& ctx, int64_t rows, int64_t width);
#endif

}  // namespace pastur
