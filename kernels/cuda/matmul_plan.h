#pragma once
// How one shape of matrix product is run by cuBLASLt: found once, then replayed.
#include <cublasLt.h>

#include <compare>
#include <cstdint>
#include <map>

#include "kernels/tensor.h"

namespace pastur {

/// A column-major matrix as cuBLASLt sees it.
struct MatmulOperand {
    DType dtype;
    int64_t leading;  ///< elements between columns
    int alignment;    ///< largest power of two, up to 256, that divides the address
    auto operator<=>(const MatmulOperand&) const = default;
};

/// Everything the choice of an algorithm may depend on: D [m, n] = op(A) op(B) + beta C, fp32 sums.
struct MatmulKey {
    bool transpose_a, transpose_b;
    bool add_c;  ///< beta = 1; otherwise C is not read
    int64_t m, n, k;
    MatmulOperand a, b, c, d;
    auto operator<=>(const MatmulKey&) const = default;
};

/// Descriptors are values here (cuBLASLt's *Init functions), so that a plan owns nothing.
struct MatmulPlan {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
};

struct MatmulPlans {
    std::map<MatmulKey, MatmulPlan> by_key;
};

}  // namespace pastur
