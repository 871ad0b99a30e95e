#pragma once
// Timing of single calls, and tensors of random numbers to time them on.
#include <chrono>
#include <functional>
#include <vector>

#include "kernels/base/context.h"

namespace pastur {

/// The p-quantile (0 to 1) by the nearest rank. values must not be empty.
double quantile(std::vector<double> values, double p);

/// Median seconds of one call, after a warm-up. Calls run back to back in bursts of at least 5 ms, which
/// hides the clock's resolution and a single kernel's launch. There are at least 5 bursts, and more while
/// they take less than a second in all.
double median_seconds(Context& ctx, const std::function<void()>& call);
/// Median seconds of one call on a device that has been idle for 0.25 s, over 5 bursts. A GPU then still has
/// the clock that it holds until it reaches its power limit, which is what short benchmarks measure.
double rested_seconds(Context& ctx, const std::function<void()>& call);

double seconds_since(std::chrono::steady_clock::time_point begin);

/// FLOP/s of a GEMM in `dtype`, [side, side] x [side, side] of normal numbers with side = product_side(ctx),
/// timed by one of the two functions above.
double product_flops_per_s(Context& ctx, DType dtype, decltype(median_seconds)& timing = median_seconds);
/// A side long enough for the GEMM's full rate: 8192 on CUDA, 2048 on the CPU.
int64_t product_side(const Context& ctx);

/// Tensors on ctx's device, filled once, freed with the pool.
class TensorPool {
  public:
    TensorPool(Context& ctx, uint64_t seed) : ctx_(ctx), seed_(seed) {}
    /// Uninitialised.
    Tensor empty(DType dtype, const Shape& shape);
    /// N(0, stddev^2), f32 or bf16. GEMMs of zeros would take a GPU less power, hence less time.
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
