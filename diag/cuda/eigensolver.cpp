#include "diag/cuda/eigensolver.h"

#include "diag/cuda/small_eigenvalues.h"
#include "diag/cuda/spread_eigenvalues.h"
#include "kernels/cuda/check.h"

namespace pastur {
namespace {

/// Up to this size matrices that do not fit kSpread are solved in one batch: twelve of 768 delay a 130m
/// training step by 14.8 ms batched, by 61 ms one by one (H100). A larger one fills the device by itself.
constexpr int64_t kBatchedLimit = 1024;

}  // namespace

SymmetricEigensolver::Method SymmetricEigensolver::method_of(int64_t n) const {
    if (own_kernels_ && n == 1) return Method::kCopy;
    if (own_kernels_ && n <= kSmallEigenvalues) return Method::kSmall;
    if (own_kernels_ && n <= kSpreadEigenvalues && SpreadPlan::make(n, 1)) return Method::kSpread;
    return n <= kBatchedLimit ? Method::kBatched : Method::kOneByOne;
}

int64_t SymmetricEigensolver::workspace_bytes(int64_t n, int64_t count) {
    size_t device = 0, host = 0;
    switch (method_of(n)) {
        case Method::kCopy:
        case Method::kSmall:
            return 0;
        case Method::kSpread:
            return SpreadPlan::make(n, count).workspace_bytes;
        case Method::kBatched:
            CUSOLVER_CHECK(cusolverDnXsyevBatched_bufferSize(
                cusolver_.handle(), cusolver_.params(), CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n,
                CUDA_R_64F, nullptr, n, CUDA_R_64F, nullptr, CUDA_R_64F, &device, &host, count));
            break;
        case Method::kOneByOne:
            CUSOLVER_CHECK(cusolverDnXsyevd_bufferSize(
                cusolver_.handle(), cusolver_.params(), CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n,
                CUDA_R_64F, nullptr, n, CUDA_R_64F, nullptr, CUDA_R_64F, &device, &host));
            break;
    }
    cusolver_.host_workspace(host);
    return static_cast<int64_t>(device);
}

void SymmetricEigensolver::solve(double* eigenvalues, int32_t* infos, double* matrices, int64_t n,
                                 int64_t count, void* workspace, int64_t workspace_bytes) {
    const auto bytes = static_cast<size_t>(workspace_bytes);
    const cudaStream_t stream = cusolver_.stream();
    std::vector<std::byte>& host = cusolver_.host_workspace();
    switch (method_of(n)) {
        case Method::kCopy:
            CUDA_CHECK(cudaMemsetAsync(infos, 0, static_cast<size_t>(count) * sizeof *infos, stream));
            CUDA_CHECK(cudaMemcpyAsync(eigenvalues, matrices, static_cast<size_t>(count) * sizeof *matrices,
                                       cudaMemcpyDeviceToDevice, stream));
            return;
        case Method::kSmall:
            CUDA_CHECK(cudaMemsetAsync(infos, 0, static_cast<size_t>(count) * sizeof *infos, stream));
            small_eigenvalues(stream, eigenvalues, matrices, n, count);
            return;
        case Method::kSpread:
            CUDA_CHECK(cudaMemsetAsync(infos, 0, static_cast<size_t>(count) * sizeof *infos, stream));
            spread_eigenvalues(stream, SpreadPlan::make(n, count), eigenvalues, matrices, n, count,
                               workspace);
            return;
        case Method::kBatched:
            CUSOLVER_CHECK(cusolverDnXsyevBatched(
                cusolver_.handle(), cusolver_.params(), CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n,
                CUDA_R_64F, matrices, n, CUDA_R_64F, eigenvalues, CUDA_R_64F, workspace, bytes, host.data(),
                host.size(), infos, count));
            return;
        case Method::kOneByOne:
            for (int64_t i = 0; i < count; ++i)
                CUSOLVER_CHECK(cusolverDnXsyevd(
                    cusolver_.handle(), cusolver_.params(), CUSOLVER_EIG_MODE_NOVECTOR,
                    CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, matrices + i * n * n, n, CUDA_R_64F,
                    eigenvalues + i * n, CUDA_R_64F, workspace, bytes, host.data(), host.size(), infos + i));
            return;
    }
}

}  // namespace pastur
