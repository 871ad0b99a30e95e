#pragma once
// What a CudaContext owns on its device. In context.h it is an opaque pointer, so CUDA's headers are included
// only in this folder and in the few other files that call CUDA libraries.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <unordered_map>

#include "kernels/base/context.h"

namespace pastur {

struct MatmulPlans;  // kernels/cuda/linear/matmul_plan.h
class UploadStage;   // kernels/cuda/upload_stage.h

/// fp8_columns.cu quantises at most this many columns per launch, in chunks, and keeps one number for each of
/// both.
inline constexpr int64_t kQuantizedColumns = 32768, kQuantizedChunks = kQuantizedColumns / 32 + 4;

struct CudaHandles {
    /// Makes the device current in the calling thread. Throws (kNoDevice).
    explicit CudaHandles(int ordinal);
    ~CudaHandles();
    static void release_device_memory(void* pointer) noexcept;  ///< Buffer::Release of cudaMalloc'd memory
    CudaHandles(const CudaHandles&) = delete;
    CudaHandles& operator=(const CudaHandles&) = delete;

    const int device;
    cudaDeviceProp properties{};
    cudaStream_t stream = nullptr;  ///< all ops run on it; it does not wait for the default stream
    cublasLtHandle_t blas = nullptr;
    // Scratch of kernels, used on `stream` only, so one kernel at a time writes it.
    Buffer blas_workspace;
    Buffer tile_counter;   ///< of kernels/cuda/attention/wgmma/streaming_forward.cuh
    Buffer column_maxima;  ///< of kernels/cuda/fp8_columns.cu
    std::unique_ptr<MatmulPlans> matmul_plans;
    std::unique_ptr<UploadStage> upload_stage;
    /// The raised limits of dynamic shared memory, in bytes, by kernel (launch.cuh).
    std::unordered_map<const void*, size_t> raised_shared_limits;

  private:
    struct Closed {};
    CudaHandles(int ordinal, Closed);
};

}  // namespace pastur
