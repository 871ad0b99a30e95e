#pragma once
// Eigenvalues of many small symmetric matrices at once.
#include <cuda_runtime_api.h>

#include <cstdint>

namespace pastur {

inline constexpr int64_t kSmallEigenvalues = 64;  ///< the largest n

/// Queues eigenvalues [count, n] = the ascending eigenvalues of symmetric, finite fp64 matrices [count, n,
/// n], n <= kSmallEigenvalues. Only their lower triangles (column-major) are read. Absolute errors are a few
/// roundings of the largest eigenvalue. One kernel with one block per matrix: cuSOLVER's batched solver
/// launches thousands of kernels, which slows training down.
void small_eigenvalues(cudaStream_t stream, double* eigenvalues, const double* matrices, int64_t n,
                       int64_t count);

}  // namespace pastur
