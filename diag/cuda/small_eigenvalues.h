#pragma once
// Eigenvalues of many small symmetric matrices at once.
#include <cuda_runtime_api.h>

#include <cstdint>

namespace pastur {

inline constexpr int64_t kSmallEigenvalues = 64;  ///< the largest n

/// Queues: eigenvalues [count, n] ascending of the symmetric, finite matrices [count, n, n] of fp64, of which
/// the lower triangles (by columns) are read; n <= kSmallEigenvalues. Absolute errors are a few roundings of
/// the largest eigenvalue. One kernel of a block a matrix: cuSOLVER's batched solver takes thousands of
/// launches, which training feels.
void small_eigenvalues(cudaStream_t stream, double* eigenvalues, const double* matrices, int64_t n,
                       int64_t count);

}  // namespace pastur
