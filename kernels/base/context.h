#pragma once
// Where an op runs. Every op has three overloads: (Context&, ...) checks its arguments once and visits;
// (CpuContext&, ...) and (CudaContext&, ...) do the work. Take Context& non-const: with a const reference a
// forgotten overload would convert back to the variant and call itself.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>

#include "kernels/base/memory.h"
#include "kernels/base/tensor.h"

namespace pastur {

class OpTimer;  // where the time goes: op_timer.h

/// Host backend: fp32, OpenMP over rows, OpenBLAS called from inside parallel regions.
class CpuContext {
  public:
    /// threads = 0: OMP_NUM_THREADS, else every core this process may use.
    explicit CpuContext(int threads = 0);
    int threads() const { return threads_; }
    Arena& scratch() { return scratch_; }
    void reserve_scratch(int64_t bytes);
    OpTimer* op_timer = nullptr;  ///< set by the timer itself

  private:
    int threads_;
    Arena scratch_;
};

#if defined(PASTUR_HAVE_CUDA)
struct CudaHandles;  // stream, cuBLASLt handle, device properties: kernels/cuda/handles.h

/// One CUDA device and the stream every op is ordered on.
class CudaContext {
  public:
    /// Throws (kNoDevice) when the driver, the device or its architecture will not do.
    explicit CudaContext(int device = 0);
    ~CudaContext();
    CudaContext(CudaContext&&) noexcept;
    CudaContext& operator=(CudaContext&&) noexcept;
    CudaHandles& handles() { return *handles_; }
    Arena& scratch() { return scratch_; }
    void reserve_scratch(int64_t bytes);
    OpTimer* op_timer = nullptr;  ///< set by the timer itself

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
/// Number of CUDA devices this process can use; 0 in a build or on a machine without CUDA.
int cuda_device_count();
/// kAuto takes CUDA device `index` where there is one, else the CPU. Throws (kNoDevice).
Context make_context(Device device, int index = 0);

bool is_cuda(const Context& ctx);
/// Model and thread count, or "NVIDIA H200".
std::string device_name(Context& ctx);
struct MemoryInfo {
    int64_t free_bytes;
    int64_t total_bytes;
};
/// Device memory, or the host's.
MemoryInfo memory_info(Context& ctx);
/// The host's available memory, bounded by the cgroup limit where there is one.
MemoryInfo host_memory_info();

/// What ops on ctx report their time to; null: nobody measures.
inline OpTimer* op_timer(Context& ctx) {
    return std::visit([](auto& c) { return c.op_timer; }, ctx);
}
void set_op_timer(Context& ctx, OpTimer* timer);

/// Uninitialised memory; throws (kNoDevice) with the numbers when there is not enough.
Buffer allocate(Context& ctx, int64_t bytes);
/// Uninitialised host memory that ctx's device copies to fastest. On the CPU as allocate(); for CUDA
/// page-locked, and empty where that cannot be had or would be more than half of the host's available memory.
Buffer allocate_host(Context& ctx, int64_t bytes);
/// Replaces the scratch arena; nothing may be in use.
void reserve_scratch(Context& ctx, int64_t bytes);
/// Waits until all work queued on ctx has finished; throws what it failed with.
void synchronize(Context& ctx);

/// dst = src, both on ctx's device, same dtype and number of elements; each contiguous, or [rows, columns]
/// with its rows apart. So too upload and download.
void copy(Context& ctx, Tensor dst, ConstTensor src);
/// Host -> device. Returns when `src` may be reused.
void upload(Context& ctx, Tensor dst, ConstTensor src);
/// Device -> host. Returns when `dst` holds the numbers.
void download(Context& ctx, Tensor dst, ConstTensor src);
/// The same, but `dst` holds them after synchronize(ctx): several are waited for at once. Into memory of
/// allocate_host() it only queues the copy.
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
