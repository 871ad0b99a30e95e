#pragma once
// Operands of the attention core in the layout of the models.
#include "engine/model/measure.h"
#include "kernels/attention/causal_attention.h"

namespace pastur {

struct CoreShape {
    int64_t batch, heads, time, content, rotary, v;
    int64_t stride = 1;    ///< AttentionInputs::stride
    int64_t document = 0;  ///< mean tokens of masked documents of random lengths; 0: none are masked
};

/// Operands in the model's layout: queries, keys and values of a token adjacent in one row, or, with a shared
/// rotary key, queries, [keys | values] and that key.
struct CoreTensors {
    AttentionInputs in;
    Tensor out, lse;
    AttentionGrads grads;
    Tensor rotary_q, rotary_k;  ///< the inputs that are rotated
};
/// Random inputs and uninitialised outputs of `dtype` in the pool, which is on ctx's device.
CoreTensors core_tensors(Context& ctx, TensorPool& pool, DType dtype, const CoreShape& s);

}  // namespace pastur
