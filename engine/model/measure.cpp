#include "engine/model/measure.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "kernels/base/interval_clock.h"
#include "kernels/base/philox.h"
#include "kernels/fill.h"
#include "kernels/matmul.h"

namespace pastur {
namespace {

constexpr double kBurstSeconds = 5e-3, kTotalSeconds = 1.0;
constexpr size_t kFewestBursts = 5;
constexpr std::chrono::milliseconds kRest{250};

/// Numbers that are drawn at a time, in fp32, for a bf16 tensor.
constexpr int64_t kDrawn = int64_t{1} << 22;

/// Times calls back to back.
class Bursts {
  public:
    Bursts(Context& ctx, const std::function<void()>& call) : clock_(make_interval_clock(ctx)), call_(call) {
        seconds(1);  // the first call may plan, load code or fault pages in
        calls_ = static_cast<int64_t>(std::ceil(kBurstSeconds / std::max(seconds(2), 1e-7)));
    }
    int64_t calls() const { return calls_; }
    /// Seconds per call, over a burst of at least kBurstSeconds.
    double seconds() { return seconds(calls_); }

  private:
    double seconds(int64_t calls) {
        clock_->clear();
        const size_t interval = clock_->begin();
        for (int64_t i = 0; i < calls; ++i) call_();
        clock_->end(interval);
        return clock_->seconds(interval) / static_cast<double>(calls);
    }

    std::unique_ptr<IntervalClock> clock_;
    const std::function<void()>& call_;
    int64_t calls_ = 0;
};

}  // namespace

double quantile(std::vector<double> values, double p) {
    PASTUR_CHECK(!values.empty(), "quantile of nothing");
    std::sort(values.begin(), values.end());
    const auto rank = static_cast<size_t>(std::ceil(p * static_cast<double>(values.size())));
    return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

double median_seconds(Context& ctx, const std::function<void()>& call) {
    Bursts bursts(ctx, call);
    std::vector<double> times;
    for (double spent = 0; times.size() < kFewestBursts || spent < kTotalSeconds;) {
        times.push_back(bursts.seconds());
        spent += times.back() * static_cast<double>(bursts.calls());
    }
    return quantile(std::move(times), 0.5);
}

double rested_seconds(Context& ctx, const std::function<void()>& call) {
    Bursts bursts(ctx, call);
    synchronize(ctx);
    std::this_thread::sleep_for(kRest);
    bursts.seconds();  // raises the clocks of an idle device
    std::vector<double> times;
    while (times.size() < kFewestBursts) times.push_back(bursts.seconds());
    return quantile(std::move(times), 0.5);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int64_t product_side(const Context& ctx) {
    return is_cuda(ctx) ? 8192 : 2048;
}

double product_flops_per_s(Context& ctx, DType dtype, decltype(median_seconds)& timing) {
    const int64_t side = product_side(ctx);
    TensorPool pool(ctx, 1);
    const Tensor x = pool.normal(dtype, {side, side}), w = pool.normal(dtype, {side, side});
    const Tensor y = pool.empty(dtype, {side, side});
    const double flops = 2.0 * static_cast<double>(side * side * side);
    return flops / timing(ctx, [&] { linear_forward(ctx, y, x, w); });
}

Tensor TensorPool::empty(DType dtype, const Shape& shape) {
    buffers_.push_back(allocate(ctx_, shape.numel() * size_of(dtype)));
    return Tensor(buffers_.back().data(), dtype, shape);
}

Tensor TensorPool::normal(DType dtype, const Shape& shape, float stddev) {
    const Tensor tensor = empty(dtype, shape);
    if (dtype == DType::kF32) {
        fill_normal(ctx_, tensor, 0, stddev, seed_, stream_++);
        return tensor;
    }
    const Buffer drawn = allocate(ctx_, std::min(kDrawn, shape.numel()) * size_of(DType::kF32));
    for (int64_t begin = 0; begin < shape.numel(); begin += kDrawn) {
        const int64_t count = std::min(kDrawn, shape.numel() - begin);
        const Tensor numbers(drawn.data(), DType::kF32, {count});
        fill_normal(ctx_, numbers, 0, stddev, seed_, stream_++);
        cast(ctx_, tensor.flat().slice(0, begin, count), numbers);
    }
    synchronize(ctx_);  // before `drawn` is freed
    return tensor;
}

Tensor TensorPool::constant(DType dtype, const Shape& shape, float value) {
    const Tensor tensor = empty(dtype, shape);
    fill(ctx_, tensor, value);
    return tensor;
}

Tensor TensorPool::ids(int64_t count, int64_t limit) {
    const std::vector<int32_t> host = random_ids(seed_, stream_++, count, limit);
    const Tensor tensor = empty(DType::kI32, {count});
    upload(ctx_, tensor, as_tensor(std::span(host)));
    return tensor;
}

std::vector<int32_t> random_ids(uint64_t seed, uint64_t index, int64_t count, int64_t limit) {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<int32_t>(philox_block(seed, index, i / 4)[i % 4] % static_cast<uint32_t>(limit));
    return ids;
}

}  // namespace pastur
