#pragma once
// Work that is queued repeatedly with identical arguments, such as the passes of a training step.
#include <functional>
#include <memory>

#include "kernels/base/context.h"

namespace pastur {

/// On CUDA the kernels of such work are captured into a graph and replayed: one call instead of about a
/// thousand, with smaller gaps between kernels (a 130m step on an H200: 173.9 to 172.2 ms). On the CPU the
/// work runs each time.
///
/// Only the numbers in the tensors may differ between runs; ops, shapes, addresses and scalars must not. The
/// work must only queue: it may not wait for the device, read from it or allocate.
class CapturedWork {
  public:
    virtual ~CapturedWork() = default;
    /// Runs the work of this kind; each kind has its own graph. The first call runs `queue` directly, because
    /// GEMM plans and modules that are created at first use cannot be created during a capture. The second
    /// call captures `queue`, and later calls replay the graph. While an OpTimer is attached, and after a
    /// failed capture, which is reported once on stderr, every call runs `queue`.
    virtual void run(size_t kind, const std::function<void()>& queue) = 0;
    /// Drops all graphs, after which every kind begins again as at its first call: before shapes or scalars of the
    /// work change. Waits for the device.
    virtual void forget() = 0;
    /// Number of calls that replayed a graph.
    virtual int64_t replays() const = 0;
};

/// ctx and everything that the work uses must outlive the result.
std::unique_ptr<CapturedWork> make_captured_work(Context& ctx);

std::unique_ptr<CapturedWork> make_captured_work(CpuContext& ctx);
#if defined(PASTUR_HAVE_CUDA)
std::unique_ptr<CapturedWork> make_captured_work(CudaContext& ctx);
#endif

}  // namespace pastur
