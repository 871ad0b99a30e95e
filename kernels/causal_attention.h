#pragma once
// Causal softmax attention, the core every variant shares.
#include <string>
#include <vector>

#include "kernels/base/context.h"

namespace pastur {

/// Inputs of the core. A query head is [content | rotary], widths d_n and d_r (d_r = 0 without k_shared); its
/// key is [k | k_shared], and k_shared, one vector a token, is read once for all heads instead of being
/// copied H times. All f32 or all bf16; unit stride in the last dimension, any other strides.
struct AttentionInputs {
    ConstTensor q;  ///< [B, T, H, d_n + d_r]
    ConstTensor
        k;  ///< [B, T, Hkv, d_n]; H is a multiple of Hkv (grouped queries: head h reads h / (H / Hkv))
    ConstTensor k_shared;  ///< [B, T, d_r], or empty
    ConstTensor v;         ///< [B, T, Hkv, d_v]
    float scale;           ///< of the scores, before the softmax
    /// Name of the path to run (causal_attention_paths), for tests and measurements; an Error where it does
    /// not take the inputs. Empty: the best that does.
    std::string path = {};
};

/// Where the gradients go; shapes, strides and dtypes as their inputs. Every one is =.
struct AttentionGrads {
    Tensor dq, dk, dk_shared, dv;
    /// f32 [>= T, w] as rope.h says, or empty. Queries and keys are then taken to be rotated by it, and the
    /// gradients are those of the vectors before the rotation: of dq and dk all columns are rotated back (w =
    /// d_n), or with k_shared the rotary columns of dq and dk_shared (w = d_r).
    ConstTensor rope_table = {};
    bool rotated_keys = true;  ///< false, without k_shared: the queries alone are taken to be rotated
};

/// The columns of the inputs that carry positions, when they are still to be rotated (rope.h, kForward): q is
/// in.q, or its last d_r columns where there is a k_shared, and k is in.k, or k_shared as [B, T, 1, d_r];
/// without k_shared it may be empty: the keys stay.
struct RotaryColumns {
    Tensor q, k;
    ConstTensor table = {};  ///< f32 [>= T, w] as rope.h says; empty: nothing is to be rotated
};

/// S = scale q k^T for keys at or before the query, P = softmax(S), out = P v.
/// out [B, T, H, d_v]; lse f32 [B, H, T] = log sum exp S, natural logarithm. Scores stay on chip. Before that
/// `rotary` is rotated in place.
void causal_attention_forward(Context& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary = {});

/// delta = rowsum(dout out); P from lse; dv = P^T dout; dS = P (dout v^T - delta); dq = scale dS k;
/// dk = scale dS^T q, over the d_n content columns and summed over the group's heads; dk_shared = the d_r
/// rotary columns of the same, summed over all heads. Every sum has one order, the same in every run. (Dao et
/// al., arXiv 2205.14135, section B.4.)
void causal_attention_backward(Context& ctx, const AttentionGrads& grads, ConstTensor dout, ConstTensor out,
                               ConstTensor lse, const AttentionInputs& in);

/// Scratch causal_attention_backward takes from ctx.scratch().
int64_t causal_attention_backward_scratch_bytes(Context& ctx, const AttentionInputs& in);

/// Names of the paths (sets of kernels) that take the inputs on ctx's device, best first: the first of each
/// pass is the one that runs.
struct AttentionPaths {
    std::vector<std::string> forward, backward;
};
AttentionPaths causal_attention_paths(Context& ctx, const AttentionInputs& in);

/// One line of the paths that run: "attention: wgmma-resident forward, mma-resident backward".
std::string causal_attention_kernels(Context& ctx, const AttentionInputs& in);

/// Why bf16 inputs run on slower kernels than other widths do on ctx's device: a sentence, or empty where
/// they do not.
std::string causal_attention_fallback(Context& ctx, const AttentionInputs& in);

void causal_attention_forward(CpuContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary);
void causal_attention_backward(CpuContext& ctx, const AttentionGrads& grads, ConstTensor dout,
                               ConstTensor out, ConstTensor lse, const AttentionInputs& in);
int64_t causal_attention_backward_scratch_bytes(CpuContext& ctx, const AttentionInputs& in);
AttentionPaths causal_attention_paths(CpuContext& ctx, const AttentionInputs& in);
std::string causal_attention_fallback(CpuContext& ctx, const AttentionInputs& in);

#if defined(PASTUR_HAVE_CUDA)
void causal_attention_forward(CudaContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary);
void causal_attention_backward(CudaContext& ctx, const AttentionGrads& grads, ConstTensor dout,
                               ConstTensor out, ConstTensor lse, const AttentionInputs& in);
int64_t causal_attention_backward_scratch_bytes(CudaContext& ctx, const AttentionInputs& in);
AttentionPaths causal_attention_paths(CudaContext& ctx, const AttentionInputs& in);
std::string causal_attention_fallback(CudaContext& ctx, const AttentionInputs& in);
#endif

}  // namespace pastur
