#pragma once
// Operands of the attention core, laid out as the models keep them.
#include "engine/model/measure.h"
#include "kernels/causal_attention.h"

namespace pastur {

struct CoreShape {
    int64_t batch, heads, time, content, rotary, v;
};

/// Operands as the model keeps them: queries, keys and values side by side in one row of a token, or with a
/// shared rotary key the queries, [keys | values] and that key.
struct CoreTensors {
    AttentionInputs in;
    Tensor out, lse;
    AttentionGrads grads;
    Tensor rotary_q, rotary_k;  ///< what of the inputs is rotated
};
/// Random inputs and uninitialised outputs of `dtype` in the pool.
CoreTensors core_tensors(TensorPool& pool, DType dtype, const CoreShape& s);

}  // namespace pastur
