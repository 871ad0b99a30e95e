#include "kernels/fill.h"

#include <curand_kernel.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 256;

/// x[i] = value. One element per thread.
template <typename T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* x, int64_t count, T value) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < count) x[i] = value;
}

/// y[i] = x[i], converted to To. A thread owns kWidth consecutive elements and processes them one by one if
/// they reach beyond the end. x and y are aligned for Packed<., kWidth>.
template <typename To, typename From, int kWidth>
__global__ void __launch_bounds__(kThreads) cast_kernel(To* y, const From* x, int64_t count) {
    const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
    if (first + kWidth <= count) {
        const auto pack = Packed<From, kWidth>::load(x + first);
        Packed<To, kWidth>::of([&](int i) { return pack[i]; }).store(y + first);
    } else {
        for (int64_t i = first; i < count; ++i) y[i] = from_float<To>(to_float(x[i]));
    }
}

/// Philox state at counter `block` of subsequence `stream`, keyed by the seed.
__device__ curandStatePhilox4_32_10_t philox_state(uint64_t seed, uint64_t stream, int64_t block) {
    curandStatePhilox4_32_10_t state;
    curand_init(seed, stream, static_cast<uint64_t>(block) * 4, &state);
    return state;
}

/// x[4 i] to x[4 i + 3] = numbers_of(state) of counter i, as a float4. One thread per counter.
template <typename NumbersOf>
__device__ void write_random(float* x, int64_t count, uint64_t seed, uint64_t stream,
                             const NumbersOf& numbers_of) {
    const int64_t block = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (block * 4 >= count) return;
    curandStatePhilox4_32_10_t state = philox_state(seed, stream, block);
    const float4 four = numbers_of(&state);
    const float numbers[] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (block * 4 + i < count) x[block * 4 + i] = numbers[i];
}

__global__ void __launch_bounds__(kThreads)
    fill_uniform_kernel(float* x, int64_t count, uint64_t seed, uint64_t stream) {
    write_random(x, count, seed, stream,
                 [](curandStatePhilox4_32_10_t* state) { return curand_uniform4(state); });
}

__global__ void __launch_bounds__(kThreads)
    fill_normal_kernel(float* x, int64_t count, float mean, float stddev, uint64_t seed, uint64_t stream) {
    write_random(x, count, seed, stream, [=](curandStatePhilox4_32_10_t* state) {
        const float4 z = curand_normal4(state);
        return float4{mean + stddev * z.x, mean + stddev * z.y, mean + stddev * z.z, mean + stddev * z.w};
    });
}

template <typename T>
void fill_with(CudaContext& ctx, const Tensor& x, T value) {
    launch(ctx, ceil_div(x.numel(), kThreads), kThreads, 0, fill_kernel<T>, device_data<T>(x), x.numel(),
           value);
}

}  // namespace

void fill(CudaContext& ctx, Tensor x, float value) {
    if (x.dtype() == DType::kF32) return fill_with<float>(ctx, x, value);
    if (x.dtype() == DType::kF64) return fill_with<double>(ctx, x, value);
    fill_with<bf16>(ctx, x, __float2bfloat16_rn(value));
}

void fill_uniform(CudaContext& ctx, Tensor x, uint64_t seed, uint64_t stream) {
    launch(ctx, ceil_div(x.numel(), kThreads * 4), kThreads, 0, fill_uniform_kernel, x.data<float>(),
           x.numel(), seed, stream);
}

void fill_normal(CudaContext& ctx, Tensor x, float mean, float stddev, uint64_t seed, uint64_t stream) {
    launch(ctx, ceil_div(x.numel(), kThreads * 4), kThreads, 0, fill_normal_kernel, x.data<float>(),
           x.numel(), mean, stddev, seed, stream);
}

void cast(CudaContext& ctx, Tensor y, ConstTensor x) {
    if (x.dtype() == y.dtype()) return copy(ctx, y, x);
    const auto run = [&]<typename To, typename From>() {
        const auto start = [&]<int kWidth>() {
            launch(ctx, ceil_div(x.numel(), kThreads * kWidth), kThreads, 0, cast_kernel<To, From, kWidth>,
                   device_data<To>(y), device_data<From>(x), x.numel());
        };
        if (allows_vectors(y.flat()) && allows_vectors(x.flat()))
            start.template operator()<kVector<bf16>>();
        else
            start.template operator()<1>();
    };
    if (y.dtype() == DType::kBF16)
        run.template operator()<bf16, float>();
    else
        run.template operator()<float, bf16>();
}

}  // namespace pastur
