#pragma once
// Eigenvalues of a few symmetric matrices of a thousand rows or less, each kept on chip by several SMs.
#include <cuda_runtime_api.h>

#include <cstdint>

namespace pastur {

inline constexpr int64_t kSpreadEigenvalues = 1024;  ///< the largest n

/// How a device holds `count` matrices of n rows: each in the shared memory of `members` blocks, `teams`
/// matrices at a time.
struct SpreadPlan {
    int members = 0, teams = 0;
    int64_t shared_bytes = 0, workspace_bytes = 0;
    explicit operator bool() const { return members > 0; }  ///< whether the device can

    /// For the current device. Throws (kOther).
    static SpreadPlan make(int64_t n, int64_t count);
};

/// Queues: eigenvalues [count, n] ascending of the symmetric, finite matrices [count, n, n] of fp64, of which
/// the lower triangles (by columns) are read; 2 <= n <= kSpreadEigenvalues, `workspace` of the plan's bytes.
/// Absolute errors are a few roundings of the largest eigenvalue; the same bits whenever the plan is the
/// same. One kernel: twelve of 768 take 9.6 ms on an H200, where cuSOLVER's batched solver takes 65 ms in
/// thousands of launches, of which training feels a third. Throws (kOther).
void spread_eigenvalues(cudaStream_t stream, const SpreadPlan& plan, double* eigenvalues,
                        const double* matrices, int64_t n, int64_t count, void* workspace);

}  // namespace pastur
