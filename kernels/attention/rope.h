#pragma once
// Rotary position embedding (Su et al., arXiv 2104.09864), Llama layout: pairs (i, i + D/2).
#include "kernels/base/context.h"

namespace pastur {

enum class Rotation : uint8_t { kForward, kInverse };

/// Fills a table f32 [T, D] in host memory: row t holds cos(t theta_i) for i < D/2, then sin(t theta_i), with
/// theta_i = base^(-2 i / D). Angles are computed in double.
void rope_table(Tensor table, double base);

/// out = R_t in for every position t; kInverse applies R_{-t}, the backward pass, because R is orthogonal:
///     out[i] = in[i] cos - in[i + D/2] sin;   out[i + D/2] = in[i + D/2] cos + in[i] sin.
/// in, out [B, T, H, D] f32 or bf16, with unit stride in D and any other strides; out may be in. table f32
/// [>= T, D] on ctx's device.
void rope(Context& ctx, Tensor out, ConstTensor in, ConstTensor table, Rotation rotation);

void rope(CpuContext& ctx, Tensor out, ConstTensor in, ConstTensor table, Rotation rotation);

#if defined(PASTUR_HAVE_CUDA)
void rope(CudaContext& ctx, Tensor out, ConstTensor in, ConstTensor table, Rotation rotation);
#endif

}  // namespace pastur
