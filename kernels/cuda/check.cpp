#include "kernels/cuda/check.h"

#include <cstdio>

namespace pastur::detail {

namespace {

/// Errors that the user can fix with another machine, device, driver or problem size.
bool is_missing_device(cudaError_t error) {
    switch (error) {
        case cudaErrorNoDevice:
        case cudaErrorInvalidDevice:
        case cudaErrorDevicesUnavailable:
        case cudaErrorInsufficientDriver:
        case cudaErrorSystemDriverMismatch:
        case cudaErrorCompatNotSupportedOnDevice:
        case cudaErrorSystemNotReady:
        case cudaErrorStubLibrary:
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorUnsupportedPtxVersion:
        case cudaErrorMemoryAllocation:
            return true;
        default:
            return false;
    }
}

std::string cuda_text(cudaError_t error, const char* call, const char* file, int line) {
    return fmt::format("{}:{}: {}: {} ({})", file, line, call, cudaGetErrorString(error),
                       cudaGetErrorName(error));
}

std::string cublas_text(cublasStatus_t status, const char* call, const char* file, int line) {
    return fmt::format("{}:{}: {}: {}", file, line, call, cublasLtGetStatusString(status));
}

}  // namespace

void cuda_failed(cudaError_t error, const char* call, const char* file, int line) {
    cudaGetLastError();
    throw Error(is_missing_device(error) ? ExitCode::kNoDevice : ExitCode::kOther,
                cuda_text(error, call, file, line));
}

void cublas_failed(cublasStatus_t status, const char* call, const char* file, int line) {
    cudaGetLastError();
    const bool no_device = status == CUBLAS_STATUS_ALLOC_FAILED || status == CUBLAS_STATUS_ARCH_MISMATCH;
    throw Error(no_device ? ExitCode::kNoDevice : ExitCode::kOther, cublas_text(status, call, file, line));
}

void cuda_log(cudaError_t error, const char* call, const char* file, int line) noexcept {
    cudaGetLastError();
    // The driver may be unloaded before static objects are destroyed, which leaks nothing.
    if (error == cudaErrorCudartUnloading) return;
    std::fprintf(stderr, "%s\n", cuda_text(error, call, file, line).c_str());
}

void cublas_log(cublasStatus_t status, const char* call, const char* file, int line) noexcept {
    std::fprintf(stderr, "%s\n", cublas_text(status, call, file, line).c_str());
}

}  // namespace pastur::detail
