#pragma once
// Where an op runs. Every op has three overloads: (Context&, ...) checks the arguments and visits the
// variant; (CpuContext&, ...) and (CudaContext&, ...) do the work. Ops take Context& non-const: through a
// const reference a missing overload would convert its argument back to the variant and call itself.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>

#include "kernels/base/memory.h"
#include "kernels/base/tensor.h"

namespace pastur {

class OpTimer;  // op_timer.h

/// Host backend: fp32, OpenMP over rows, single-threaded OpenBLAS calls from parallel regions.
class CpuContext {
  public:
    /// threads = 0: OMP_NUM_THREADS if set, otherwise all cores that this process may use.
    explicit CpuContext(int threads = 0);
    int threads() const { return threads_; }
    Arena& scratch() { return scratch_; }
    void reserve_scratch(int64_t bytes);
    OpTimer* op_timer = nullptr;  ///< set by set_op_timer; null: ops are not timed

  private:
    int threads_;
    Arena scratch_;
};

#if defined(PASTUR_HAVE_CUDA)
struct CudaHandles;  // stream, cuBLASLt handle, device properties: kernels/cuda/handles.h

/// One CUDA device and the stream on which all ops run in order.
class CudaContext {
  public:
    /// Throws (kNoDevice) if the driver, the device or its architecture is not supported.
    explicit CudaContext(int device = 0);
    ~CudaContext();
    CudaContext(CudaContext&&) noexcept;
    CudaContext& operator=(CudaContext&&) noexcept;
    CudaHandles& handles() { return *handles_; }
    Arena& scratch() { return scratch_; }
    void reserve_scratch(int64_t bytes);
    OpTimer* op_timer = nullptr;  ///< set by set_op_timer; null: ops are not timed

  private:
    std::unique_ptr<CudaHandles> handles_;
    Arena scratch_;
};
using Context = std::variant<CpuContext, CudaContext>;
#else
using Context = std::variant<CpuContext>;
#endif

enum class Device : uint8_t { kAuto, kCpu, kCuda };
/// "auto", "cpu" or "cuda"; anything else throws (kUsage).
Device parse_device(const std::string& name);
/// Number of CUDA devices that this process can use; 0 in a build or on a machine without CUDA.
int cuda_device_count();
/// kAuto selects CUDA device `index` if this process can use CUDA, otherwise the CPU. Throws (kNoDevice).
Context make_context(Device device, int index = 0);

bool is_cuda(const Context& ctx);
/// Such as "AMD EPYC 9354 (16 threads)" or "NVIDIA H200".
std::string device_name(Context& ctx);
struct MemoryInfo {
    int64_t free_bytes;
    int64_t total_bytes;
};
/// Memory of the device that ctx runs on.
MemoryInfo memory_info(Context& ctx);
/// Memory of the host, bounded by the limit of the cgroup if there is one.
MemoryInfo host_memory_info();

/// The timer that ops on ctx report to; null: ops are not timed.
inline OpTimer* op_timer(Context& ctx) {
    return std::visit([](auto& c) { return c.op_timer; }, ctx);
}
void set_op_timer(Context& ctx, OpTimer* timer);

/// Uninitialised memory. Throws (kNoDevice) with the numbers if there is not enough.
Buffer allocate(Context& ctx, int64_t bytes);
/// Uninitialised host memory for fast copies from ctx's device. On the CPU this is allocate(). For CUDA the
/// memory is page-locked; the buffer is empty if the driver refuses or if it would exceed half of the host's
/// available memory.
Buffer allocate_host(Context& ctx, int64_t bytes);
/// Replaces the scratch arena. No frame may be open.
void reserve_scratch(Context& ctx, int64_t bytes);
/// Waits until all work queued on ctx has finished; throws the error of work that failed.
void synchronize(Context& ctx);

/// dst = src, both on ctx's device, with the same dtype and number of elements. Each is contiguous or a
/// matrix with strided rows; upload and download accept the same layouts.
void copy(Context& ctx, Tensor dst, ConstTensor src);
/// Host to device. Returns when `src` may be reused.
void upload(Context& ctx, Tensor dst, ConstTensor src);
/// Device to host. Returns when `dst` holds the numbers.
void download(Context& ctx, Tensor dst, ConstTensor src);
/// Device to host; `dst` holds the numbers after synchronize(ctx), so one wait serves several downloads. Into
/// memory from allocate_host() this only queues the copy.
void begin_download(Context& ctx, Tensor dst, ConstTensor src);

std::string device_name(CpuContext& ctx);
MemoryInfo memory_info(CpuContext& ctx);
Buffer allocate(CpuContext& ctx, int64_t bytes);
Buffer allocate_host(CpuContext& ctx, int64_t bytes);
void synchronize(CpuContext& ctx);
void copy(CpuContext& ctx, Tensor dst, ConstTensor src);
void upload(CpuContext& ctx, Tensor dst, ConstTensor src);
void download(CpuContext& ctx, Tensor dst, ConstTensor src);
void begin_download(CpuContext& ctx, Tensor dst, ConstTensor src);

#if defined(PASTUR_HAVE_CUDA)
std::string device_name(CudaContext& ctx);
MemoryInfo memory_info(CudaContext& ctx);
Buffer allocate(CudaContext& ctx, int64_t bytes);
Buffer allocate_host(CudaContext& ctx, int64_t bytes);
void synchronize(CudaContext& ctx);
void copy(CudaContext& ctx, Tensor dst, ConstTensor src);
void upload(CudaContext& ctx, Tensor dst, ConstTensor src);
void download(CudaContext& ctx, Tensor dst, ConstTensor src);
void begin_download(CudaContext& ctx, Tensor dst, ConstTensor src);
#endif

}  // namespace pastur
