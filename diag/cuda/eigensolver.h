#pragma once
// Eigenvalues of batches of symmetric fp64 matrices: by own kernels where a matrix fits on chip, otherwise by
// cuSOLVER.
#include "diag/cuda/cusolver.h"

namespace pastur {

class SymmetricEigensolver {
  public:
    /// `own_kernels` false: cuSOLVER solves every size, as a check.
    SymmetricEigensolver(Cusolver& cusolver, bool own_kernels)
        : cusolver_(cusolver), own_kernels_(own_kernels) {}

    /// Device memory that solve() of these sizes needs.
    int64_t workspace_bytes(int64_t n, int64_t count);
    /// Queues eigenvalues [count, n] = the ascending eigenvalues of matrices [count, n, n], which it
    /// destroys, and infos [count] = cuSOLVER's devInfo of each, 0 for success. Throws (kOther) for a call
    /// that cuSOLVER refuses.
    void solve(double* eigenvalues, int32_t* infos, double* matrices, int64_t n, int64_t count,
               void* workspace, int64_t workspace_bytes);

  private:
    enum class Method { kCopy, kSmall, kSpread, kBatched, kOneByOne };
    Method method_of(int64_t n) const;

    Cusolver& cusolver_;
    bool own_kernels_;
};

}  // namespace pastur
