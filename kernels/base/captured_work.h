#pragma once
// Work that is queued on a context again and again with the very same arguments, as a training step's is.
#include <functional>
#include <memory>

#include "kernels/base/context.h"

namespace pastur {

/// On CUDA the kernels that such work launches are captured into a graph and replayed: one call instead of a
/// thousand, and smaller gaps between them (a 130m step on an H200: 173.9 to 172.2 ms). On the CPU it is done
/// each time.
///
/// The work may differ in the numbers its tensors hold and in nothing else: same ops, same shapes, same
/// addresses, same scalars. It must only queue: neither wait for the device, nor read from it, nor allocate.
class CapturedWork {
  public:
    virtual ~CapturedWork() = default;
    /// Does the work of this kind, of which every kind has its own graph. The first call runs `queue`: what
    /// is made at first use (plans of matrix products, modules) cannot be made during a capture. The second
    /// one captures it, and later ones replay that without calling `queue`. It is called each time while an
    /// OpTimer is attached, and after a capture that failed, which is said once on stderr.
    virtual void run(size_t kind, const std::function<void()>& queue) = 0;
    /// Calls whose work a graph did.
    virtual int64_t replays() const = 0;
};

/// ctx and all that the work uses must outlive it.
std::unique_ptr<CapturedWork> make_captured_work(Context& ctx);

std::unique_ptr<CapturedWork> make_captured_work(CpuContext& ctx);
#if defined(PASTUR_HAVE_CUDA)
std::unique_ptr<CapturedWork> make_captured_work(CudaContext& ctx);
#endif

}  // namespace pastur
