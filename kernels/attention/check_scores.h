#pragma once
#include "kernels/attention/causal_attention.h"

namespace pastur {

/// Checks what the scores of attention are made of: shapes, dtypes and strides of in.q, in.k and in.k_shared, and
/// in.stride. A failure's message begins with `op`.
void check_scores(const char* op, const AttentionInputs& in);

}  // namespace pastur
