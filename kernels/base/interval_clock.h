#pragma once
// Times intervals of the work that is queued on a context.
#include <memory>

#include "kernels/base/context.h"

namespace pastur {

/// Measures the time between two points in the order in which a context's work runs. On CUDA the points are
/// events on the stream, so measuring does not wait for the device. On the CPU, where ops return when they
/// are done, they are readings of the monotonic clock. Intervals may be nested.
class IntervalClock {
  public:
    virtual ~IntervalClock() = default;
    /// Opens an interval and returns its number, which counts from 0 since the last clear().
    virtual size_t begin() = 0;
    /// Closes an interval. A failure is logged here and thrown by seconds().
    virtual void end(size_t interval) noexcept = 0;
    /// Waits until the work in a closed interval has finished and returns its length.
    virtual double seconds(size_t interval) = 0;
    /// Drops all intervals; their events are reused.
    virtual void clear() = 0;
};

/// ctx must outlive the clock.
std::unique_ptr<IntervalClock> make_interval_clock(Context& ctx);

std::unique_ptr<IntervalClock> make_interval_clock(CpuContext& ctx);
#if defined(PASTUR_HAVE_CUDA)
std::unique_ptr<IntervalClock> make_interval_clock(CudaContext& ctx);
#endif

}  // namespace pastur
