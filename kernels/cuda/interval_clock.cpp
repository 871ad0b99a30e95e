#include "kernels/base/interval_clock.h"

#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {
namespace {

class CudaIntervalClock final : public IntervalClock {
  public:
    explicit CudaIntervalClock(CudaContext& ctx) : ctx_(ctx) {}
    ~CudaIntervalClock() override {
        for (const Interval& interval : intervals_)
            for (cudaEvent_t event : {interval.begin, interval.end})
                if (event) CUDA_CHECK_LOG(cudaEventDestroy(event));
    }

    size_t begin() override {
        if (used_ == intervals_.size()) {
            // Added to the list before its events exist, so the destructor destroys one if creating the other
            // throws.
            Interval& added = intervals_.emplace_back();
            CUDA_CHECK(cudaSetDevice(ctx_.handles().device));
            CUDA_CHECK(cudaEventCreate(&added.begin));
            CUDA_CHECK(cudaEventCreate(&added.end));
        }
        CUDA_CHECK(cudaEventRecord(intervals_[used_].begin, ctx_.handles().stream));
        return used_++;
    }
    void end(size_t interval) noexcept override {
        CUDA_CHECK_LOG(cudaEventRecord(intervals_[interval].end, ctx_.handles().stream));
    }
    double seconds(size_t interval) override {
        float milliseconds = 0;
        CUDA_CHECK(cudaEventSynchronize(intervals_[interval].end));
        CUDA_CHECK(cudaEventElapsedTime(&milliseconds, intervals_[interval].begin, intervals_[interval].end));
        return static_cast<double>(milliseconds) / 1e3;
    }
    void clear() override { used_ = 0; }

  private:
    struct Interval {
        cudaEvent_t begin = nullptr, end = nullptr;
    };
    CudaContext& ctx_;
    std::vector<Interval> intervals_;
    size_t used_ = 0;  ///< number of intervals opened since the last clear()
};

}  // namespace

std::unique_ptr<IntervalClock> make_interval_clock(CudaContext& ctx) {
    return std::make_unique<CudaIntervalClock>(ctx);
}

}  // namespace pastur
