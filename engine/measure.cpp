#include "engine/measure.h"

#include <algorithm>
#include <cmath>

#include "kernels/fill.h"
#include "kernels/interval_clock.h"
#include "kernels/matmul.h"
#include "kernels/philox.h"

namespace pastur {
namespace {

constexpr double kBurstSeconds = 5e-3, kTotalSeconds = 1.0;
constexpr size_t kFewestBursts = 5;

/// Random numbers are drawn in fp32, so many at a time where they end up in bf16.
constexpr int64_t kDrawn = int64_t{1} << 22;

}  // namespace

double quantile(std::vector<double> values, double p) {
    PASTUR_CHECK(!values.empty(), "quantile of nothing");
    std::sort(values.begin(), values.end());
    const auto rank = static_cast<size_t>(std::ceil(p * static_cast<double>(values.size())));
    return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

double median_seconds(Context& ctx, const std::function<void()>& call) {
    const std::unique_ptr<IntervalClock> clock = make_interval_clock(ctx);
    const auto burst = [&](int64_t calls) {
        clock->clear();
        const size_t interval = clock->begin();
        for (int64_t i = 0; i < calls; ++i) call();
        clock->end(interval);
        return clock->seconds(interval) / static_cast<double>(calls);
    };
    burst(1);  // the first call may still plan, load code or fault pages in
    const double estimate = std::max(burst(2), 1e-7);
    const auto calls = static_cast<int64_t>(std::ceil(kBurstSeconds / estimate));
    std::vector<double> times;
    for (double spent = 0; times.size() < kFewestBursts || spent < kTotalSeconds;) {
        times.push_back(burst(calls));
        spent += times.back() * static_cast<double>(calls);
    }
    return quantile(std::move(times), 0.5);
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int64_t product_side(const Context& ctx) {
    return is_cuda(ctx) ? 8192 : 2048;
}

double product_flops_per_s(Context& ctx, DType dtype) {
    const int64_t side = product_side(ctx);
    TensorPool pool(ctx, 1);
    const Tensor x = pool.normal(dtype, {side, side}), w = pool.normal(dtype, {side, side});
    const Tensor y = pool.empty(dtype, {side, side});
    const double flops = 2.0 * static_cast<double>(side * side * side);
    return flops / median_seconds(ctx, [&] { linear_forward(ctx, y, x, w); });
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
    synchronize(ctx_);  // before `drawn` goes
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
