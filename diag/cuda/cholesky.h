#pragma once
// Square roots of batches of positive semidefinite fp64 matrices: cuSOLVER's Cholesky factorisation, and an
// own one with pivoting for matrices that are rank-deficient.
#include "diag/cuda/cusolver.h"

namespace pastur {

class CholeskyRoots {
  public:
    explicit CholeskyRoots(Cusolver& cusolver) : cusolver_(cusolver) {}

    /// Device memory that solve() of these sizes needs.
    int64_t workspace_bytes(int64_t n, int64_t count);
    /// Queues roots [count, n, n] = B^T with B B^T = G for each finite, positive semidefinite G of grams
    /// [count, n, n]. The error is about n roundings of G's largest entry. Throws (kOther) for a call that
    /// cuSOLVER refuses.
    void solve(double* roots, const double* grams, int64_t n, int64_t count, std::byte* workspace);

  private:
    struct Workspace;
    Cusolver& cusolver_;
};

}  // namespace pastur
