#pragma once
// How cuBLASLt runs one shape of GEMM: found once, then reused.
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
    bool add_c;              ///< beta = 1; otherwise beta = 0 and C is not read
    bool fast_accumulation;  ///< of e4m3 operands
    int64_t m, n, k;
    MatmulOperand a, b, c, d;
    auto operator<=>(const MatmulKey&) const = default;
};

struct MatmulAlgorithm {
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
};

/// The descriptors are values, made by cuBLASLt's *Init functions, so a plan owns no resource.
struct MatmulPlan {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    MatmulAlgorithm algorithm;
};

struct CudaHandles;

struct MatmulPlans {
    std::map<MatmulKey, MatmulPlan> by_key;
};

/// The operands of one GEMM. d_bytes is the span of d, including unknown bytes between strided rows.
struct MatmulCall {
    const std::byte *a, *b, *c;
    std::byte* d;
    int64_t d_bytes;
    bool add_c;
    /// f32 [m] and [n], the scales of the rows of op(A) and the columns of op(B), where those are e4m3; else
    /// null.
    const float *a_scales = nullptr, *b_scales = nullptr;
};

/// Queues the GEMM on the context's stream.
cublasStatus_t run_matmul(CudaHandles& handles, MatmulPlan& plan, const MatmulAlgorithm& algorithm,
                          const MatmulCall& call);

/// Runs the candidates on the call's own operands and returns the fastest of those whose result has the same
/// bits as the first one's, so timing never affects results. Afterwards d is unchanged or holds the result.
/// Returns the first candidate where it is the only one, or where there is no memory for a trial. (The
/// fastest algorithm is up to 25 % faster than the heuristic's first one on the GEMMs of a 130m model on an
/// H100.)
MatmulAlgorithm fastest_algorithm(CudaContext& ctx, MatmulPlan& plan,
                                  const std::vector<MatmulAlgorithm>& candidates, const MatmulCall& call);

}  // namespace pastur
