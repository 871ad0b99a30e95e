#pragma once
// How long stretches of the work queued on a context take.
#include <memory>

#include "kernels/base/context.h"

namespace pastur {

/// Measures intervals between two points of the order in which a context's work runs. On CUDA these are
/// events on its stream, so that measuring waits for nothing; on the CPU, whose ops return when they are
/// done, the monotonic clock. An interval may lie in another.
class IntervalClock {
  public:
    virtual ~IntervalClock() = default;
    /// Opens an interval here and returns its number, counted from 0 since the last clear().
    virtual size_t begin() = 0;
    /// Closes it here. A failure is logged, and thrown by seconds().
    virtual void end(size_t interval) noexcept = 0;
    /// Length of a closed interval; waits until the work in it has finished.
    virtual double seconds(size_t interval) = 0;
    /// Forgets all intervals and keeps their events for the next ones.
    virtual void clear() = 0;
};

/// ctx must outlive the clock.
std::unique_ptr<IntervalClock> make_interval_clock(Context& ctx);

std::unique_ptr<IntervalClock> make_interval_clock(CpuContext& ctx);
#if defined(PASTUR_HAVE_CUDA)
std::unique_ptr<IntervalClock> make_interval_clock(CudaContext& ctx);
#endif

}  // namespace pastur
