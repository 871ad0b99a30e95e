#pragma once
// Checks of calls into CUDA and cuBLASLt.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "kernels/base/error.h"

namespace pastur::detail {

/// Clears the last error of the runtime, so the next check does not report it again, and throws
/// "<file>:<line>: <call>: <CUDA's text>" with kNoDevice for a missing device, driver or memory, else kOther.
[[noreturn]] void cuda_failed(cudaError_t error, const char* call, const char* file, int line);
[[noreturn]] void cublas_failed(cublasStatus_t status, const char* call, const char* file, int line);

/// Writes the same line to stderr, where throwing is not allowed.
void cuda_log(cudaError_t error, const char* call, const char* file, int line) noexcept;
void cublas_log(cublasStatus_t status, const char* call, const char* file, int line) noexcept;

}  // namespace pastur::detail

#define CUDA_CHECK(call)                                                                \
    do {                                                                                \
        const cudaError_t cuda_check_error = (call);                                    \
        if (cuda_check_error != cudaSuccess)                                            \
            ::pastur::detail::cuda_failed(cuda_check_error, #call, __FILE__, __LINE__); \
    } while (false)

#define CUBLAS_CHECK(call)                                                                   \
    do {                                                                                     \
        const cublasStatus_t cublas_check_status = (call);                                   \
        if (cublas_check_status != CUBLAS_STATUS_SUCCESS)                                    \
            ::pastur::detail::cublas_failed(cublas_check_status, #call, __FILE__, __LINE__); \
    } while (false)

/// CUDA_CHECK for destructors and release functions.
#define CUDA_CHECK_LOG(call)                                                         \
    do {                                                                             \
        const cudaError_t cuda_check_error = (call);                                 \
        if (cuda_check_error != cudaSuccess)                                         \
            ::pastur::detail::cuda_log(cuda_check_error, #call, __FILE__, __LINE__); \
    } while (false)

#define CUBLAS_CHECK_LOG(call)                                                            \
    do {                                                                                  \
        const cublasStatus_t cublas_check_status = (call);                                \
        if (cublas_check_status != CUBLAS_STATUS_SUCCESS)                                 \
            ::pastur::detail::cublas_log(cublas_check_status, #call, __FILE__, __LINE__); \
    } while (false)
