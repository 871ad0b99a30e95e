#pragma once
// The one way to launch a kernel: on the context's stream, every argument converted to the kernel's parameter
// type, every error caught and named.
#include <cuda_runtime.h>

#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {

namespace detail {
/// Makes ctx's device current and, above the 48 KiB every kernel may have, raises the kernel's limit of
/// dynamic shared memory. Throws, naming the kernel, where the device has less.
void prepare_launch(CudaContext& ctx, const void* kernel, size_t shared_bytes);
[[noreturn]] void launch_failed(cudaError_t error, const void* kernel, dim3 grid, dim3 block,
                                size_t shared_bytes);

/// The work of launch() and launch_together().
template <typename... Params, typename... Args>
void launch_as(CudaContext& ctx, bool together, dim3 grid, dim3 block, size_t shared_bytes,
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
    config.numAttrs = together ? 1 : 0;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...);
    if (error != cudaSuccess) launch_failed(error, address, grid, block, shared_bytes);
}
}  // namespace detail

/// Queues kernel(args...) with `shared_bytes` of dynamic shared memory. grid and block may be numbers.
template <typename... Params, typename... Args>
void launch(CudaContext& ctx, dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Params...),
            Args&&... args) {
    detail::launch_as(ctx, false, grid, block, shared_bytes, kernel, std::forward<Args>(args)...);
}

/// The same for a kernel whose blocks wait for each other: all run at once, or the launch fails.
template <typename... Params, typename... Args>
void launch_together(CudaContext& ctx, dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(Params...),
                     Args&&... args) {
    detail::launch_as(ctx, true, grid, block, shared_bytes, kernel, std::forward<Args>(args)...);
}

/// The same as launch() on another stream of the current device, for work that runs beside the context's:
/// with no more shared memory than every kernel may have.
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

/// ceil(count / size) for grids.
constexpr int64_t ceil_div(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

}  // namespace pastur
