#pragma once
// Causal softmax attention, the core that all variants share.
#include <string>
#include <vector>

#include "kernels/attention/document_bounds.h"

namespace pastur {

/// Inputs of the core. A query head is [content | rotary], widths d_n and d_r (d_r = 0 without k_shared). Its
/// key is [k | k_shared]: k_shared, one vector per token, is read once for all heads instead of being copied
/// H times. All f32 or all bf16; unit stride in the last dimension, any other strides.
struct AttentionInputs {
    ConstTensor q;         ///< [B, T, H, d_n + d_r]
    ConstTensor k;         ///< [B, T, Hkv, d_n]; Hkv divides H: query head h reads key head h / (H / Hkv)
    ConstTensor k_shared;  ///< [B, T, d_r], or empty
    ConstTensor v;         ///< [B, T, Hkv, d_v]
    float scale;           ///< of the scores, before the softmax; > 0
    /// Name of the path to run (causal_attention_paths), for tests and measurements; throws (kOther) where
    /// that path does not take the inputs. Empty: the best path that does.
    std::string path = {};
    /// s >= 1: query i sees key n iff n = i, or n <= i and (n + 1) mod s = 0. 1 is the causal mask.
    int64_t stride = 1;
    /// Of the documents whose queries see no keys of other documents; empty: every query sees the whole sequence
    /// before it. Both masks hold where both are given.
    DocumentBounds documents = {};
};

/// Gradients of the inputs, with their shapes and dtypes. All are =.
struct AttentionGrads {
    Tensor dq, dk, dk_shared, dv;
    /// f32 [>= T, w] as in rope.h, or empty. With a table, queries and keys are rotated by it and the
    /// gradients are those of the vectors before the rotation: all columns of dq and dk are rotated back (w =
    /// d_n), or with k_shared the rotary columns of dq, and dk_shared (w = d_r).
    ConstTensor rope_table = {};
    bool rotated_keys = true;  ///< false: only the queries are rotated; not with k_shared
};

/// Columns of the inputs to rotate before the scores (rope.h, kForward). q: in.q, or its last d_r columns
/// with k_shared. k: in.k, or k_shared as [B, T, 1, d_r]; without k_shared it may be empty, which leaves the
/// keys as they are.
struct RotaryColumns {
    Tensor q, k;
    ConstTensor table = {};  ///< f32 [>= T, w] as in rope.h; empty: nothing to rotate
};

/// Floats in a cache line of a GPU, at which atomic operations queue up.
inline constexpr int64_t kMaxLogitStride = 32;

/// S = scale q k^T for the keys that the query sees, P = softmax(S), out = P v. out [B, T, H, d_v]; lse f32
/// [B, H, T] = log sum exp S, natural logarithm. Scores are never stored to memory. `rotary` is rotated in
/// place before. max_logit f32 [H], any stride, or empty: max=, so each number is raised to the largest S of its head, over
/// all sequences, queries and keys that they see, and stays if it is larger; start from -infinity. A maximum does not
/// depend on an order, so it is deterministic. A NaN is never the largest: the rows of `out` that it reaches are NaN. On a
/// GPU a stride of kMaxLogitStride keeps heads from waiting for each other.
void causal_attention_forward(Context& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary = {}, Tensor max_logit = {});

/// delta = rowsum(dout out); P from lse; dv = P^T dout; dS = P (dout v^T - delta); dq = scale dS k;
/// dk = scale dS^T q, its d_n content columns, summed over the heads of a group; dk_shared = its d_r rotary
/// columns, summed over all heads. Sums have a fixed order, so results are deterministic. (Dao et al., arXiv
/// 2205.14135, section B.4.)
void causal_attention_backward(Context& ctx, const AttentionGrads& grads, ConstTensor dout, ConstTensor out,
                               ConstTensor lse, const AttentionInputs& in);

/// Bytes of ctx.scratch() that causal_attention_backward needs.
int64_t causal_attention_backward_scratch_bytes(Context& ctx, const AttentionInputs& in);

/// Names of the paths (sets of kernels) that take the inputs on ctx's device, best first. The first of each
/// pass runs; "cpu" on a CPU. Outputs and gradients count as aligned like the inputs.
struct AttentionPaths {
    std::vector<std::string> forward, backward;
};
AttentionPaths causal_attention_paths(Context& ctx, const AttentionInputs& in);

/// One line on the paths that run: "attention: wgmma-resident forward, mma-resident backward".
std::string causal_attention_kernels(Context& ctx, const AttentionInputs& in);

/// A sentence where bf16 inputs run on slower kernels than heads of other widths do on ctx's device; else
/// empty.
std::string causal_attention_fallback(Context& ctx, const AttentionInputs& in);

void causal_attention_forward(CpuContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary, Tensor max_logit);
void causal_attention_backward(CpuContext& ctx, const AttentionGrads& grads, ConstTensor dout,
                               ConstTensor out, ConstTensor lse, const AttentionInputs& in);
int64_t causal_attention_backward_scratch_bytes(CpuContext& ctx, const AttentionInputs& in);
AttentionPaths causal_attention_paths(CpuContext& ctx, const AttentionInputs& in);
std::string causal_attention_fallback(CpuContext& ctx, const AttentionInputs& in);

#if defined(PASTUR_HAVE_CUDA)
void causal_attention_forward(CudaContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary, Tensor max_logit);
void causal_attention_backward(CudaContext& ctx, const AttentionGrads& grads, ConstTensor dout,
                               ConstTensor out, ConstTensor lse, const AttentionInputs& in);
int64_t causal_attention_backward_scratch_bytes(CudaContext& ctx, const AttentionInputs& in);
AttentionPaths causal_attention_paths(CudaContext& ctx, const AttentionInputs& in);
std::string causal_attention_fallback(CudaContext& ctx, const AttentionInputs& in);
#endif

}  // namespace pastur
