#pragma once
// Sizes, views and kernel parameters that the attention kernels share.
#include "kernels/attention/document_bounds.h"
#include "kernels/cuda/numeric.cuh"

namespace pastur::attention {

inline constexpr float kLog2E = 1.4426950408889634f;

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

struct Sizes {
    int batch, tokens, heads, kv_heads;
    int content, rotary, value;  ///< d_n, d_r, d_v
    int stride;                  ///< AttentionInputs::stride
    __host__ __device__ int query_key() const { return content + rotary; }
    __host__ __device__ int group() const { return heads / kv_heads; }
};

/// One number per head, [H], `stride` floats apart; data is null where they are not asked for.
struct HeadMaxima {
    float* data;
    int stride;
};

/// DocumentBounds of the sequences, [B, T] each, or null.
struct Documents {
    const int *first_key, *query_end;
};

inline Documents documents_of(const DocumentBounds& bounds) {
    if (bounds.empty()) return {};
    return {bounds.first_key.data<int32_t>(), bounds.query_end.data<int32_t>()};
}

/// Tokens of a sequence rounded up to whole tiles of 64.
inline int padded_tokens(int tokens) {
    return (tokens + 63) / 64 * 64;
}

template <typename T>
struct ForwardParams {
    Sizes sizes;
    float scale;
    HeadView<const T> q, k, k_shared, v;  ///< k_shared has one head: its head stride is 0
    HeadView<T> out;
    float* lse;            ///< [B, H, T], natural logarithm
    HeadMaxima max_logit;  ///< raised by max_logit.cuh
    Documents documents;
    /// f32 [>= T, w] as rope.h says, for paths that rotate (paths.h), or null. They rotate rotated_q and
    /// rotated_k in place before the scores.
    const float* rope_table;
    HeadView<T> rotated_q;  ///< q, or its rotary columns where keys have a shared part
    HeadView<T> rotated_k;  ///< k, or empty: keys stay, and so does k_shared, which is rotated already
};

template <typename T>
struct BackwardParams {
    Sizes sizes;
    float scale;
    HeadView<const T> q, k, k_shared, v, out, dout;
    const float* lse;
    Documents documents;
    HeadView<T> dq, dk, dv;
    HeadView<T> dk_shared;    ///< [B, T, parts, d_r]: partial sums over heads (BackwardScratch::key_parts)
    const float* rope_table;  ///< for paths that rotate gradients back, or null
    bool rotated_keys;        ///< whether dk or dk_shared are rotated back, or dq alone
    float2* row_stats;  ///< scratch: (log2(e) lse, delta) of each query, written by one kernel for the next
    float* dq_sums;     ///< scratch: fp32 sums of dq
    int* dq_counters;   ///< scratch: progress of those sums and of what they read
};

}  // namespace pastur::attention
