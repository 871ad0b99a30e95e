#include <cxxabi.h>

#include <cstdlib>

#include "kernels/cuda/launch.cuh"

namespace pastur::detail {

namespace {

/// Dynamic shared memory available to a kernel without raising its limit (CUDA programming guide, "Technical
/// Specifications per Compute Capability").
constexpr size_t kDefaultSharedBytes = 48 * 1024;

std::string kernel_name(const void* kernel) {
    const char* mangled = nullptr;
    if (cudaFuncGetName(&mangled, kernel) != cudaSuccess || !mangled) {
        cudaGetLastError();
        return "kernel";
    }
    int status = 0;
    char* demangled = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    std::string name = status == 0 && demangled ? demangled : mangled;
    std::free(demangled);
    return name;
}

}  // namespace

void prepare_launch(CudaContext& ctx, const void* kernel, size_t shared_bytes) {
    CudaHandles& handles = ctx.handles();
    // The current device is a property of the thread, and a context may be used on another thread than the
    // one that created it.
    CUDA_CHECK(cudaSetDevice(handles.device));
    if (shared_bytes <= kDefaultSharedBytes) return;
    size_t& raised = handles.raised_shared_limits[kernel];
    if (shared_bytes <= raised) return;
    cudaFuncAttributes attributes{};
    CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
    const size_t limit = handles.properties.sharedMemPerBlockOptin - attributes.sharedSizeBytes;
    if (shared_bytes > limit)
        fail(ExitCode::kOther, "{}: needs {} bytes of dynamic shared memory per block; {} has {}",
             kernel_name(kernel), shared_bytes, handles.properties.name, limit);
    CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
    raised = shared_bytes;
}

void launch_failed(cudaError_t error, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes) {
    const std::string call = fmt::format("{}<<<({}, {}, {}), ({}, {}, {}), {}>>>", kernel_name(kernel),
                                         grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);
    cuda_failed(error, call.c_str(), __FILE__, __LINE__);
}

}  // namespace pastur::detail
