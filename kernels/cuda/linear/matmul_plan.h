#pragma once
// How one shape of matrix product is run by cuBLASLt: found once, then replayed.
#include <cublasLt.h>

#include <compare>
#include <cstdint>
#include <map>
#include <vector>

#include "kernels/base/context.h"
#include "kernels/base/tensor.h"

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
    bool add_c;      ///< beta = 1; otherwise C is not read
    bool fast_sums;  ///< of e4m3 operands, whose columns have scales
    int64_t m, n, k;
    MatmulOperand a, b, c, d;
    auto operator<=>(const MatmulKey&) const = default;
};

struct MatmulAlgorithm {
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
};

/// Descriptors are values here (cuBLASLt's *Init functions), so that a plan owns nothing.
struct MatmulPlan {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    MatmulAlgorithm algorithm;
};

struct CudaHandles;

struct MatmulPlans {
    std::map<MatmulKey, MatmulPlan> by_key;
};

/// The operands of one product. d is dense or has gaps of which nothing is known; d_bytes spans it all.
struct MatmulCall {
    const std::byte *a, *b, *c;
    std::byte* d;
    int64_t d_bytes;
    bool add_c;
    /// f32 [m] and [n], of op(A)'s rows and op(B)'s columns, where those are e4m3.
    const float *a_scales = nullptr, *b_scales = nullptr;
};

/// Queues the product on the context's stream.
cublasStatus_t run_matmul(CudaHandles& handles, MatmulPlan& plan, const MatmulAlgorithm& algorithm,
                          const MatmulCall& call);

/// Runs the candidates on the call's own operands, and returns the fastest of those that give the very bits
/// of the first: the choice, which timing makes, never shows in a result. d holds the product afterwards or
/// is as it was; the first candidate is returned where there is nothing to choose, or no memory to try in.
/// (Heuristic and fastest differ by up to 25 % at the products of a 130m model on an H100.)
MatmulAlgorithm fastest_algorithm(CudaContext& ctx, MatmulPlan& plan,
                                  const std::vector<MatmulAlgorithm>& candidates, const MatmulCall& call);

}  // namespace pastur
