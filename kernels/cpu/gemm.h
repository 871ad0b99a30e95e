#pragma once
#include <cblas.h>

#include <cstdint>

#include "kernels/base/context.h"

namespace pastur {

/// C [m, n] = A B + beta C, row-major fp32; transposed operands are stored the other way round.
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

/// On the calling thread.
void gemm(const Gemm& g, float alpha = 1.0f);

/// On the context's threads: each computes a band of rows, or of columns when those are more.
void parallel_gemm(CpuContext& ctx, const Gemm& g);

}  // namespace pastur
