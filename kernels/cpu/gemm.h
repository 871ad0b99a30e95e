#pragma once
#include <cblas.h>

#include <cstdint>

#include "kernels/base/context.h"

namespace pastur {

/// C [m, n] = alpha op(A) op(B) + beta C, row-major fp32. A is stored as [m, k], or as [k, m] if transposed;
/// B as [k, n], or as [n, k].
struct Gemm {
    int64_t m, n, k;
    const float* a;
    int64_t lda;
    bool transpose_a;
    const float* b;
    int64_t ldb;
    bool transpose_b;
    float beta;
    float* c;
    int64_t ldc;
};

/// Runs on the calling thread.
void gemm(const Gemm& g, float alpha = 1.0f);

/// Runs on the context's threads: each computes a band of rows of C, or of columns if C has more columns than
/// rows.
void parallel_gemm(CpuContext& ctx, const Gemm& g);

}  // namespace pastur
