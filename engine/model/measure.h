#pragma once
// Timing of single calls, and the random numbers they work on.
#include <chrono>
#include <functional>
#include <vector>

#include "kernels/base/context.h"

namespace pastur {

/// The p-quantile (0 to 1) by the nearest rank. values must not be empty.
double quantile(std::vector<double> values, double p);

/// Median seconds of one call, after a warm-up. Calls that queue work on ctx run back to back in bursts of at
/// least some milliseconds, so that neither the clock nor the launch of a lone kernel shows; there are at
/// least 5 bursts, and more while they take less than a second in all.
double median_seconds(Context& ctx, const std::function<void()>& call);
/// The same of a device that has been idle for a moment, over fewer bursts, some hundredths of a second in
/// all: the clock that a GPU has until it reaches its power limit, which is what short benchmarks see.
double rested_seconds(Context& ctx, const std::function<void()>& call);

double seconds_since(std::chrono::steady_clock::time_point begin);

/// FLOP/s of a product in `dtype` as large as its rate needs, of normal numbers: [side, side] squared. By one
/// of the two above.
double product_flops_per_s(Context& ctx, DType dtype, decltype(median_seconds)& timing = median_seconds);
/// That side: 8192 on CUDA, 2048 on the CPU.
int64_t product_side(const Context& ctx);

/// Tensors on ctx's device, filled once, freed with the pool.
class TensorPool {
  public:
    TensorPool(Context& ctx, uint64_t seed) : ctx_(ctx), seed_(seed) {}
    /// Uninitialised.
    Tensor empty(DType dtype, const Shape& shape);
    /// N(0, stddev^2), f32 or bf16. Not zeros: their products would cost a GPU less power, hence less time.
    Tensor normal(DType dtype, const Shape& shape, float stddev = 1);
    Tensor constant(DType dtype, const Shape& shape, float value);
    /// i32 [count], uniform in [0, limit).
    Tensor ids(int64_t count, int64_t limit);

  private:
    Context& ctx_;
    uint64_t seed_, stream_ = 0;
    std::vector<Buffer> buffers_;
};

/// Uniform in [0, limit), a function of (seed, index).
std::vector<int32_t> random_ids(uint64_t seed, uint64_t index, int64_t count, int64_t limit);

}  // namespace pastur
