#pragma once
// The only way to launch a kernel: on the context's stream, with arguments converted to the types of the
// kernel's parameters, and with every error reported under the kernel's name.
#include <cuda_runtime.h>

#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {

namespace detail {
/// Makes ctx's device current and raises the kernel's limit of dynamic shared memory where it exceeds the
/// default of 48 KiB. Throws, naming the kernel, if the device has less.
void prepare_launch(CudaContext& ctx, const void* kernel, size_t shared_bytes);
[[noreturn]] void launch_failed(cudaError_t error, const void* kernel, dim3 grid, dim3 block,
                                size_t shared_bytes);

/// Implements launch() and, if `cooperative`, launch_together().
template <typename... Params, typename... Args>
void launch_as(CudaContext& ctx, bool cooperative, dim3 grid, dim3 block, size_t shared_bytes,
               void (*kernel)(Params...), Args&&... args) {
    const void* address = reinterpret_cast<const void*>(kernel);
    prepare_launch(ctx, address, shared_bytes);
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = ctx.handles().stream;
    config.attrs = &attribute;
    config.numAttrs = cooperative ? 1 : 0;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
    if (error != cudaSuccess) launch_failed(error, address, grid, block, shared_bytes);
}
}  // namespace detail

/// Queues kernel(args...) with `shared_bytes` of dynamic shared memory. grid and block convert from numbers.
template <typename... Params, typename... Args>
void launch(CudaContext& ctx, dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Params...),
            Args&&... args) {
    detail::launch_as(ctx, false, grid, block, shared_bytes, kernel, std::forward<Args>(args)...);
}

/// Cooperative launch, for kernels whose blocks wait for each other: all blocks are resident at once, or the
/// launch fails.
template <typename... Params, typename... Args>
void launch_together(CudaContext& ctx, dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Params...),
                     Args&&... args) {
    detail::launch_as(ctx, true, grid, block, shared_bytes, kernel, std::forward<Args>(args)...);
}

/// Queues kernel(args...) on another stream of the current device, for work concurrent with that of the
/// context. The kernel may use static shared memory only.
template <typename... Params, typename... Args>
void launch_beside(cudaStream_t stream, dim3 grid, dim3 block, void (*kernel)(Params...), Args&&... args) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.stream = stream;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
    if (error != cudaSuccess)
        detail::launch_failed(error, reinterpret_cast<const void*>(kernel), grid, block, 0);
}

/// ceil(count / size), for grid sizes.
constexpr int64_t ceil_div(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

}  // namespace pastur
