#include "diag/cuda/eigensolver.h"

#include <cstdio>

#include "diag/cuda/small_eigenvalues.h"
#include "diag/cuda/spread_eigenvalues.h"
#include "kernels/cuda/check.h"

namespace pastur {
namespace {

/// Where the device is too small for kSpread: twelve of 768 beside 130m training cost it 14.8 ms batched, 61
/// ms one by one (H100); larger ones fill the device by themselves.
constexpr int64_t kBatchedLimit = 1024;

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
}

Eigensolver::~Eigensolver() {
    bool closed = true;
    if (params_) closed &= cusolverDnDestroyParams(params_) == CUSOLVER_STATUS_SUCCESS;
    if (handle_) closed &= cusolverDnDestroy(handle_) == CUSOLVER_STATUS_SUCCESS;
    if (!closed) std::fprintf(stderr, "cuSOLVER could not be closed\n");
}

Eigensolver::Method Eigensolver::method_of(int64_t n) {
    if (n == 1) return Method::kCopy;
    if (n <= kSmallEigenvalues) return Method::kSmall;
    if (n <= kSpreadEigenvalues && SpreadPlan::make(n, 1)) return Method::kSpread;
    return n <= kBatchedLimit ? Method::kBatched : Method::kOneByOne;
}

int64_t Eigensolver::workspace_bytes(int64_t n, int64_t count) {
    size_t device = 0, host = 0;
    switch (method_of(n)) {
        case Method::kCopy:
        case Method::kSmall:
            return 0;
        case Method::kSpread:
            return SpreadPlan::make(n, count).workspace_bytes;
        case Method::kBatched:
            CUSOLVER_CHECK(cusolverDnXsyevBatched_bufferSize(
                handle_, params_, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, nullptr,
                n, CUDA_R_64F, nullptr, CUDA_R_64F, &device, &host, count));
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
        case Method::kSmall:
            CUDA_CHECK(cudaMemsetAsync(infos, 0, static_cast<size_t>(count) * sizeof *infos, stream_));
            small_eigenvalues(stream_, eigenvalues, matrices, n, count);
            return;
        case Method::kSpread:
            CUDA_CHECK(cudaMemsetAsync(infos, 0, static_cast<size_t>(count) * sizeof *infos, stream_));
            spread_eigenvalues(stream_, SpreadPlan::make(n, count), eigenvalues, matrices, n, count,
                               workspace);
            return;
        case Method::kBatched:
            CUSOLVER_CHECK(cusolverDnXsyevBatched(
                handle_, params_, CUSOLVER_EIG_MODE_NOVECTOR, CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, matrices,
                n, CUDA_R_64F, eigenvalues, CUDA_R_64F, workspace, bytes, host_workspace_.data(),
                host_workspace_.size(), infos, count));
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
