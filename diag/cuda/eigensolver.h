#pragma once
// Eigenvalues of batches of symmetric fp64 matrices: by our own kernels where they stay on chip, cuSOLVER's
// otherwise.
#include <cusolverDn.h>

#include <string>
#include <vector>

#include "kernels/memory.h"

namespace pastur {

class Eigensolver {
  public:
    /// On `stream`, of the current device. Throws (kNoDevice, kOther).
    explicit Eigensolver(cudaStream_t stream);
    ~Eigensolver();
    Eigensolver(const Eigensolver&) = delete;
    Eigensolver& operator=(const Eigensolver&) = delete;

    /// Device memory that solve() of these sizes needs.
    int64_t workspace_bytes(int64_t n, int64_t count);
    /// Queues: eigenvalues [count, n] ascending of matrices [count, n, n] (which it destroys), infos [count]
    /// = what cuSOLVER says of each, 0 for success. Throws (kOther) for a call that cuSOLVER refuses.
    void solve(double* eigenvalues, int32_t* infos, double* matrices, int64_t n, int64_t count,
               void* workspace, int64_t workspace_bytes);

  private:
    enum class Method { kCopy, kSmall, kSpread, kBatched, kOneByOne };
    static Method method_of(int64_t n);

    cudaStream_t stream_;
    cusolverDnHandle_t handle_ = nullptr;
    cusolverDnParams_t params_ = nullptr;
    std::vector<std::byte> host_workspace_;
};

}  // namespace pastur
