#include "diag/cuda/eigensolver.h"

#include <algorithm>
#include <cstdio>

#include "kernels/cuda/check.h"

namespace pastur {
namespace {

/// cuSOLVER's one-kernel Jacobi method takes batches up to this size; 144 of 32 x 32 cost 0.3 ms on an H200.
constexpr int64_t kJacobiLimit = 32;
/// Twelve of 768 beside 130m training cost it 14.8 ms batched, 61 ms one by one (H100); larger ones fill the
/// device by themselves.
constexpr int64_t kBatchedLimit = 1024;
/// Matrices of a batch that stay in the cache together disturb training less: twelve of 768 beside it, 21 ms
/// a measurement at once, 18 in two batches, 10 in three (H200).
constexpr int64_t kBatchBytes = int64_t{20} << 20;

int64_t batch_of(int64_t n, int64_t count) {
    return std::min(count, std::max(int64_t{1}, kBatchBytes / (n * n * size_of(DType::kF64))));
}

void check_status(cusolverStatus_t status, const char* call) {
    if (status == CUSOLVER_STATUS_SUCCESS) return;
    fail(status == CUSOLVER_STATUS_ALLOC_FAILED ? ExitCode::kNoDevice : ExitCode::kOther,
         "{}: cuSOLVER status {}", call, static_cast<int>(status));
}
#define CUSOLVER_CHECK(call) check_status((call), #call)

}  // namespace

Eigensolver::Eigensolver(cudaStream_t stream) : stream_(stream) {
    CUSOLVER_CHECK(cusolverDnCreate(&handle_));
    CUSOLVER_CHECK(cusolverDnSetStream(handle_, stream));
    CUSOLVER_CHECK(cusolverDnSetDeterministicMode(handle_, CUSOLVER_DETERMINISTIC_RESULTS));
    CUSOLVER_CHECK(cusolverDnCreateParams(&params_));
    CUSOLVER_CHECK(cusolverDnCreateSyevjInfo(&jacobi_));
    CUSOLVER_CHECK(cusolverDnXsyevjSetSortEig(jacobi_, 1));
}

Eigensolver::~Eigensolver() {
    bool closed = true;
    if (jacobi_) closed &= cusolverDnDestroySyevjInfo(jacobi_) == CUSOLVER_STATUS_SUCCESS;
    if (params_) closed &= cusolverDnDestroyParams(params_) == CUSOLVER_STATUS_SUCCESS;
    if (handle_) closed &= cusolverDnDestroy(handle_) == CUSOLVER_STATUS_SUCCESS;
    if (!closed) std::fprintf(stderr, "cuSOLVER could not be closed\n");
}

Eigensolver::Method Eigensolver::method_of(int64_t n) {
    if (n == 1) return Method::kCopy;
    if (n <= kJacobiLimit) return Method::kJacobi;
    return n <= kBatchedLimit ? Method::kBatched : Method::kOneByOne;
}

int64_t Eigensolver::workspace_bytes(int64_t n, int64_t count) {
    size_t device = 0, host = 0;
    int jacobi = 0;
    switch (method_of(n)) {
        case Method::kCopy:
            return 0;
        case Method::kJacobi:
            CUSOLVER_CHECK(cusolverDnDsyevjBatched_bufferSize(
                handle_, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, static_cast<int>(n), nullptr,
                static_cast<int>(n), nullptr, &jacobi, jacobi_, static_cast<int>(count)));
            return int64_t{jacobi} * size_of(DType::kF64);
        case Method::kBatched:
            CUSOLVER_CHECK(cusolverDnXsyevBatched_bufferSize(
                handle_, params_, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, nullptr,
                n, CUDA_R_64F, nullptr, CUDA_R_64F, &device, &host, batch_of(n, count)));
            break;
        case Method::kOneByOne:
            CUSOLVER_CHECK(cusolverDnXsyevd_bufferSize(handle_, params_, CUSOLVER_EIG_MODE_NOVECTOR,
                                                       CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, nullptr, n,
                                                       CUDA_R_64F, nullptr, CUDA_R_64F, &device, &host));
            break;
    }
    if (host > host_workspace_.size()) host_workspace_.resize(host);
    return static_cast<int64_t>(device);
}

void Eigensolver::solve(double* eigenvalues, int32_t* infos, double* matrices, int64_t n, int64_t count,
                        void* workspace, int64_t workspace_bytes) {
    const auto bytes = static_cast<size_t>(workspace_bytes);
    switch (method_of(n)) {
        case Method::kCopy:
            CUDA_CHECK(cudaMemsetAsync(infos, 0, static_cast<size_t>(count) * sizeof *infos, stream_));
            CUDA_CHECK(cudaMemcpyAsync(eigenvalues, matrices, static_cast<size_t>(count) * sizeof *matrices,
                                       cudaMemcpyDeviceToDevice, stream_));
            return;
        case Method::kJacobi:
            CUSOLVER_CHECK(cusolverDnDsyevjBatched(
                handle_, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, static_cast<int>(n), matrices,
                static_cast<int>(n), eigenvalues, static_cast<double*>(workspace),
                static_cast<int>(workspace_bytes / size_of(DType::kF64)), infos, jacobi_,
                static_cast<int>(count)));
            return;
        case Method::kBatched:
            for (int64_t i = 0; i < count; i += batch_of(n, count))
                CUSOLVER_CHECK(cusolverDnXsyevBatched(
                    handle_, params_, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F,
                    matrices + i * n * n, n, CUDA_R_64F, eigenvalues + i * n, CUDA_R_64F, workspace, bytes,
                    host_workspace_.data(), host_workspace_.size(), infos + i,
                    std::min(batch_of(n, count), count - i)));
            return;
        case Method::kOneByOne:
            for (int64_t i = 0; i < count; ++i)
                CUSOLVER_CHECK(cusolverDnXsyevd(
                    handle_, params_, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F,
                    matrices + i * n * n, n, CUDA_R_64F, eigenvalues + i * n, CUDA_R_64F, workspace, bytes,
                    host_workspace_.data(), host_workspace_.size(), infos + i));
            return;
    }
}

}  // namespace pastur
