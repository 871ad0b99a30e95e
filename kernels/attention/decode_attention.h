#pragma once
// Attention of one query per sequence over a cache of keys and values, for decoding.
#include "kernels/base/context.h"

namespace pastur {

/// A query head is [content | rotary], widths d_n and d_r, given as two tensors; its key is [k | k_shared], where all
/// heads share k_shared. All but `lengths` f32 or bf16, of one dtype, with unit stride in the last dimension and any
/// other strides. Entries of the cache beyond a sequence's length are not read.
struct DecodeInputs {
    ConstTensor q;         ///< [B, H, d_n]
    ConstTensor q_shared;  ///< [B, H, d_r], or empty
    ConstTensor k;         ///< [B, S, Hkv, d_n]; Hkv divides H: query head h reads key head h / (H / Hkv)
    ConstTensor k_shared;  ///< [B, S, d_r], empty as q_shared is
    ConstTensor v;         ///< [B, S, Hkv, d_v]; may be k, if keys and values are one latent
    /// i32 [B], contiguous: the query of sequence b sees entries [0, lengths[b]), of which there are 1 to `longest`.
    ConstTensor lengths;
    int64_t longest;  ///< 1 to S
    float scale;      ///< of the scores, before the softmax
};

/// Entries that CUDA's kernel gives to one block. Blocks of a sequence are combined in ascending order, and the size
/// does not depend on the batch, so the bits of a sequence depend neither on the others nor on the device's size.
inline constexpr int64_t kDecodeSplit = 256;

/// S_j = scale (q k_j + q_shared k_shared_j), P = softmax(S), out = P v. out [B, H, d_v], of the inputs' dtype, =. Sums
/// are fp32. A NaN in what a query sees makes its output NaN. (Dao et al., arXiv 2205.14135, with the keys divided over
/// blocks.)
void decode_attention(Context& ctx, Tensor out, const DecodeInputs& in);

/// Bytes of ctx.scratch() that are enough for decode_attention on inputs of these shapes, however many of the S entries
/// `longest` says; `lengths` and `longest` are not read.
int64_t decode_attention_scratch_bytes(Context& ctx, const DecodeInputs& in);

void decode_attention(CpuContext& ctx, Tensor out, const DecodeInputs& in);
int64_t decode_attention_scratch_bytes(CpuContext& ctx, const DecodeInputs& in);

#if defined(PASTUR_HAVE_CUDA)
void decode_attention(CudaContext& ctx, Tensor out, const DecodeInputs& in);
int64_t decode_attention_scratch_bytes(CudaContext& ctx, const DecodeInputs& in);
#endif

}  // namespace pastur
