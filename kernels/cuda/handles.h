#pragma once
// What a CudaContext owns on its device. context.h shows it as an opaque pointer, so that CUDA's headers stop
// at this folder and at the few files elsewhere that call CUDA libraries themselves.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <unordered_map>

#include "kernels/base/context.h"

namespace pastur {

struct
    MatmulPlans;  // descriptors and algorithm of every product seen so far: kernels/cuda/linear/matmul_plan.h
class UploadStage;  // pinned memory between pageable host memory and the device: kernels/cuda/upload_stage.h

/// Columns that fp8_columns.cu rounds at once, and the chunks they make; it has a number for each.
inline constexpr int64_t kRoundedColumns = 32768, kRoundedChunks = kRoundedColumns / 32 + 4;

struct CudaHandles {
    explicit CudaHandles(
        int ordinal);  ///< throws (kNoDevice); makes the device current in the calling thread
    ~CudaHandles();
    static void release_device_memory(void* pointer) noexcept;  ///< Buffer::Release of cudaMalloc'd memory
    CudaHandles(const CudaHandles&) = delete;
    CudaHandles& operator=(const CudaHandles&) = delete;

    const int device;
    cudaDeviceProp properties{};
    cudaStream_t stream = nullptr;  ///< every op is ordered on it; it does not wait for the default stream
    cublasLtHandle_t blas = nullptr;
    Buffer blas_workspace;   ///< used on `stream` only, so that one product at a time writes it
    Buffer tile_counter;     ///< likewise, by attention: kernels/cuda/attention/wgmma_tiles.cuh
    Buffer rounded_columns;  ///< likewise, by kernels/cuda/fp8_columns.cu
    std::unique_ptr<MatmulPlans> matmul_plans;
    std::unique_ptr<UploadStage> upload_stage;
    /// Kernels whose limit of dynamic shared memory was raised, and to how many bytes: launch.cuh.
    std::unordered_map<const void*, size_t> raised_shared_limits;

  private:
    struct Closed {};
    CudaHandles(int ordinal, Closed);
};

}  // namespace pastur
