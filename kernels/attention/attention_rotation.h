#pragma once
// The rotary embedding as separate ops, for attention kernels without a rotation inside. Ctx: a backend's
// context.
#include "kernels/attention/causal_attention.h"
#include "kernels/attention/rope.h"

namespace pastur {

/// Rotates the rotary columns in place; nothing where the table is empty.
template <typename Ctx>
void rotate(Ctx& ctx, const RotaryColumns& rotary) {
    if (rotary.table.empty()) return;
    rope(ctx, rotary.q, rotary.q, rotary.table, Rotation::kForward);
    if (!rotary.k.empty()) rope(ctx, rotary.k, rotary.k, rotary.table, Rotation::kForward);
}

/// Rotates the rotary columns of dq and of the keys' gradient back in place; nothing where the table is
/// empty.
template <typename Ctx>
void rotate_back(Ctx& ctx, const AttentionGrads& grads) {
    if (grads.rope_table.empty()) return;
    const int64_t width = grads.rope_table.size(1);
    const Tensor dq = grads.dq.slice(3, grads.dq.size(3) - width, width);
    const Tensor dk = grads.dk_shared.empty() ? grads.dk : grads.dk_shared.unflatten(2, 1, width);
    rope(ctx, dq, dq, grads.rope_table, Rotation::kInverse);
    if (grads.rotated_keys) rope(ctx, dk, dk, grads.rope_table, Rotation::kInverse);
}

}  // namespace pastur
