#pragma once
// Temporal merging of latents (multi-head temporal latent attention, Deng & Woodland, arXiv 2505.13544): a
// gated sum of the latents of a chunk of `stride` adjacent tokens, up to each token.
//
// N = B T tokens of B sequences. Token b of a sequence is in chunk j = floor(b / stride), J = ceil(T /
// stride) chunks. r is the width of a latent, h that of the two codes whose product is the gate.
#include "kernels/base/context.h"

namespace pastur {

/// positions[j, 2i] = sin(j 10000^(-2i/r)), positions[j, 2i + 1] = cos(j 10000^(-2i/r)): the sinusoidal
/// embedding of the number of a chunk (Vaswani et al., arXiv 1706.03762). positions [J, r] f32 or bf16,
/// contiguous, =. Angles are computed in double.
void chunk_positions(Context& ctx, Tensor positions);

/// What both passes read. Latents and codes are of one dtype, f32 or bf16; their rows may be strided.
struct TemporalMerge {
    ConstTensor c;                        ///< [N, r]
    ConstTensor latent_code;              ///< [N, h]: a linear map of c, without its bias
    ConstTensor chunk_code;               ///< [J, h]: a linear map of chunk_positions, without its bias
    ConstTensor latent_bias, chunk_bias;  ///< f32 [h]
    int64_t time;                         ///< T, which divides N
    int64_t stride;                       ///< >= 1
    /// i32 [B, T] (document_bounds.h), or empty. A chunk in which documents begin becomes the parts between their first
    /// tokens: no sum holds latents of another document. Chunks and their numbers stay those of the sequence.
    ConstTensor first_key = {};
};

/// z_b = (latent_code_b + latent_bias) . (chunk_code_j + chunk_bias); gate_b = 1 / (1 + exp(-z_b)); out_a =
/// sum of gate_b c_b over the tokens b <= a of the chunk of a, b >= first_key[a]. out [N, r] like c; gate f32 [N]. Both are =.
void temporal_merge_forward(Context& ctx, Tensor out, Tensor gate, const TemporalMerge& in);

/// Gradients. dc, dlatent_code and dchunk_code are =, of the shapes and dtype of what they are the gradients
/// of; their rows may be strided.
struct TemporalMergeGrads {
    Tensor dc;  ///< the share through the sum; that through latent_code is the caller's GEMM. May be dout.
    Tensor dlatent_code, dchunk_code;
    Tensor dlatent_bias, dchunk_bias;  ///< f32 [h], by bias_update
    Update bias_update;
};

/// With A_b = sum of dout_a over the tokens a >= b of the chunk of b, first_key[a] <= b, and dz_b = (A_b . c_b) gate_b (1 -
/// gate_b):
///     dc_b = gate_b A_b;   dlatent_code_b = dz_b (chunk_code_j + chunk_bias);
///     dchunk_code_j = sum_b dz_b (latent_code_b + latent_bias) over the tokens of chunk j in all sequences;
///     dlatent_bias = or += sum_b dlatent_code_b;   dchunk_bias = or += sum_j dchunk_code_j.
/// dout [N, r] like c; gate as forward wrote it. Sums have a fixed order.
void temporal_merge_backward(Context& ctx, const TemporalMergeGrads& grads, ConstTensor dout,
                             ConstTensor gate, const TemporalMerge& in);

/// Bytes that temporal_merge_backward takes from ctx.scratch().
int64_t temporal_merge_backward_scratch_bytes(Context& ctx, const TemporalMerge& in);

void chunk_positions(CpuContext& ctx, Tensor positions);
void temporal_merge_forward(CpuContext& ctx, Tensor out, Tensor gate, const TemporalMerge& in);
void temporal_merge_backward(CpuContext& ctx, const TemporalMergeGrads& grads, ConstTensor dout,
                             ConstTensor gate, const TemporalMerge& in);
int64_t temporal_merge_backward_scratch_bytes(CpuContext& ctx, const TemporalMerge& in);

#if defined(PASTUR_HAVE_CUDA)
void chunk_positions(CudaContext& ctx, Tensor positions);
void temporal_merge_forward(CudaContext& ctx, Tensor out, Tensor gate, const TemporalMerge& in);
void temporal_merge_backward(CudaContext& ctx, const TemporalMergeGrads& grads, ConstTensor dout,
                             ConstTensor gate, const TemporalMerge& in);
int64_t temporal_merge_backward_scratch_bytes(CudaContext& ctx, const TemporalMerge& in);
#endif

}  // namespace pastur
