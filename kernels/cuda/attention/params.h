#pragma once
// What the attention kernels of this folder and their dispatch (causal_attention.cu) share.
#include <string>

#include "kernels/base/context.h"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

/// [B, T, heads, width] on the device: strides in elements, unit stride along the width.
template <typename T>
struct HeadView {
    T* data;
    int64_t batch;
    int token, head;

    __host__ __device__ T* at(int b, int h) const {
        return data + b * batch + static_cast<int64_t>(h) * head;
    }
};

struct AttentionSizes {
    int batch, tokens, heads, kv_heads;
    int content, rotary, value;  ///< d_n, d_r, d_v
    __host__ __device__ int query_key() const { return content + rotary; }
    __host__ __device__ int group() const { return heads / kv_heads; }
};

template <typename T>
struct AttentionForwardParams {
    AttentionSizes sizes;
    float scale;
    HeadView<const T> q, k, k_shared, v;  ///< k_shared has one head: its head stride is 0
    HeadView<T> out;
    float* lse;  ///< [B, H, T], natural logarithm
    /// Or null. The resident kernel rotates q and k by it, in place; where keys are partly shared, the rotary
    /// columns of q alone.
    const float* rope_table;
    HeadView<T> rotated_q, rotated_k;  ///< those columns of q and of k, or of q alone
};

template <typename T>
struct AttentionBackwardParams {
    AttentionSizes sizes;
    float scale;
    HeadView<const T> q, k, k_shared, v, out, dout;
    const float* lse;
    HeadView<T> dq, dk, dv;
    HeadView<T> dk_shared;    ///< partial sums, each over some key heads: [B, T, parts, d_r]
    const float* rope_table;  ///< or null: all kernels but those of sm_80 and of CUDA cores rotate back by it
    bool rotated_keys;        ///< whether dk or dk_shared too, or dq alone
    float2* row_stats;  ///< [B, H, T] scratch: (log2(e) lse, delta), where a kernel leaves it to the next
    float* dq_sums;     ///< scratch of the kernels that attention_hopper_sums is for: fp32 sums of dq
    int* dq_counters;   ///< and how far they, and what they need, are
};

/// Tensor cores, bf16: widths multiples of 8 and every row aligned to 16 bytes, which the caller checks.
/// attention_sm80_supports looks at the widths, and at the shared memory of ctx's device for the widest.
bool attention_sm80_supports(CudaContext& ctx, const AttentionSizes& sizes);
void attention_sm80_forward(CudaContext& ctx, const AttentionForwardParams<bf16>& params);
void attention_sm80_backward(CudaContext& ctx, const AttentionBackwardParams<bf16>& params);

/// The same for sequences of up to 256 tokens and heads of 64 columns (of a key also 32 of the head and 32
/// shared), which a block of threads holds whole, so that every input is read from memory once. Backward
/// takes as many key heads as heads, and leaves attention_resident_key_parts partial sums of dk_shared.
bool attention_resident_supports_forward(CudaContext& ctx, const AttentionSizes& sizes);
bool attention_resident_supports_backward(CudaContext& ctx, const AttentionSizes& sizes);
int attention_resident_key_parts(CudaContext& ctx, const AttentionSizes& sizes);
void attention_resident_forward(CudaContext& ctx, const AttentionForwardParams<bf16>& params);
void attention_resident_backward(CudaContext& ctx, const AttentionBackwardParams<bf16>& params);
/// What attention_resident_forward is on Hopper.
void attention_resident_hopper_forward(CudaContext& ctx, const AttentionForwardParams<bf16>& params);
/// And attention_resident_backward, for the lengths that it takes; run: heads of a partial sum of dk_shared.
bool attention_resident_hopper_takes_backward(CudaContext& ctx, const AttentionSizes& sizes);
void attention_resident_hopper_backward(CudaContext& ctx, const AttentionBackwardParams<bf16>& params,
                                        int run);

/// The same on Hopper alone, for the widths of wgmma_tiles.cuh. Backward takes row_stats as [B, H,
/// attention_padded_tokens].
bool attention_hopper_supports(CudaContext& ctx, const AttentionSizes& sizes);
/// Those widths: "64/64, 32+32/64", content and shared columns of a key / columns of a value.
std::string attention_hopper_widths();
void attention_hopper_forward(CudaContext& ctx, const AttentionForwardParams<bf16>& params);
void attention_hopper_backward(CudaContext& ctx, const AttentionBackwardParams<bf16>& params);
inline int attention_padded_tokens(int tokens) {
    return (tokens + 63) / 64 * 64;
}
/// What backward takes beside row_stats: numbers of elements of dq_sums and of dq_counters.
struct AttentionSums {
    int64_t floats, counters;
};
AttentionSums attention_hopper_sums(const AttentionSizes& sizes);

/// CUDA cores, fp32 arithmetic: any widths, any alignment. T is float or bf16.
template <typename T>
void attention_simt_forward(CudaContext& ctx, const AttentionForwardParams<T>& params);
template <typename T>
void attention_simt_backward(CudaContext& ctx, const AttentionBackwardParams<T>& params);

}  // namespace pastur
