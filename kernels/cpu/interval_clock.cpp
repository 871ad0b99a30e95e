#include "kernels/base/interval_clock.h"

#include <chrono>
#include <vector>

namespace pastur {
namespace {

class CpuIntervalClock final : public IntervalClock {
  public:
    size_t begin() override {
        intervals_.emplace_back();
        intervals_.back().begin = Clock::now();
        return intervals_.size() - 1;
    }
    void end(size_t interval) noexcept override { intervals_[interval].end = Clock::now(); }
    double seconds(size_t interval) override {
        return std::chrono::duration<double>(intervals_[interval].end - intervals_[interval].begin).count();
    }
    void clear() override { intervals_.clear(); }

  private:
    using Clock = std::chrono::steady_clock;
    struct Interval {
        Clock::time_point begin, end;
    };
    std::vector<Interval> intervals_;
};

}  // namespace

std::unique_ptr<IntervalClock> make_interval_clock(CpuContext&) {
    return std::make_unique<CpuIntervalClock>();
}

}  // namespace pastur
