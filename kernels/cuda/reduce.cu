#include "kernels/reduce.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 256;
/// Largest number of blocks of the first pass. It does not depend on the device, so the order of summation
/// depends on the number of elements only.
constexpr int64_t kMaxBlocks = 1024;
/// Elements per thread in small sums.
constexpr int64_t kPerThread = 16;

int64_t sum_blocks(int64_t count) {
    return std::clamp<int64_t>(ceil_div(count, kThreads * kPerThread), 1, kMaxBlocks);
}

/// partials[b] = the sum of x or x^2 over the elements of block b, in double. Threads stride over vectors of
/// kWidth by the size of the grid; block 0 adds the last count % kWidth elements. x is aligned for Packed<T,
/// kWidth>.
template <typename T, int kWidth, bool kSquare>
__global__ void __launch_bounds__(kThreads) partial_sums_kernel(double* partials, const T* x, int64_t count) {
    __shared__ double shared[kThreads / kWarp];
    double sum = 0;
    const auto add = [&](float number) {
        const double wide = number;
        sum += kSquare ? wide * wide : wide;
    };
    const int64_t vectors = count / kWidth, stride = static_cast<int64_t>(gridDim.x) * kThreads;
#pragma unroll 2
    for (int64_t v = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; v < vectors; v += stride) {
        const auto pack = Packed<T, kWidth>::load(x + v * kWidth);
        for (int i = 0; i < kWidth; ++i) add(pack[i]);
    }
    const int64_t last = vectors * kWidth + threadIdx.x;
    if (blockIdx.x == 0 && last < count) add(to_float(x[last]));
    sum = block_sum<kThreads>(sum, shared);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// sum = or += partials[0] + partials[1] + ... One block; thread t adds partials t, t + kThreads, ... in
/// order.
__global__ void __launch_bounds__(kThreads)
    total_sum_kernel(double* sum, const double* partials, int64_t count, bool accumulate) {
    __shared__ double shared[kThreads / kWarp];
    double total = 0;
    for (int64_t i = threadIdx.x; i < count; i += kThreads) total += partials[i];
    total = block_sum<kThreads>(total, shared);
    if (threadIdx.x == 0) *sum = accumulate ? *sum + total : total;
}

/// sums[b] = the sum of x^2 over elements kSumPiece b to kSumPiece (b + 1), in double. One block per sum.
__global__ void __launch_bounds__(kThreads) piece_sums_kernel(double* sums, const float* x) {
    static_assert(kSumPiece % kThreads == 0);
    __shared__ double shared[kThreads / kWarp];
    const float* piece = x + static_cast<int64_t>(blockIdx.x) * kSumPiece;
    double sum = 0;
#pragma unroll
    for (int i = 0; i < kSumPiece; i += kThreads) {
        const double wide = piece[i + threadIdx.x];
        sum += wide * wide;
    }
    sum = block_sum<kThreads>(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/// y[i] = or += x[0][i] + x[1][i] + ..., in this order. One element per thread.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    sum_rows_kernel(float* y, const T* x, int64_t rows, int64_t width, bool accumulate) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= width) return;
    float sum = to_float(x[i]);
    if (accumulate) sum = y[i] + sum;
    for (int64_t row = 1; row < rows; ++row) sum += to_float(x[row * width + i]);
    y[i] = sum;
}

template <bool kSquare>
void reduce(CudaContext& ctx, const Tensor& sum, const ConstTensor& x, Update update) {
    Arena::Frame frame(ctx.scratch(), "sum");
    const int64_t count = x.numel(), blocks = sum_blocks(count);
    double* partials = frame.take(DType::kF64, {blocks}).data<double>();
    visit_float_type(x.dtype(), [&]<typename T>() {
        const auto run = [&]<int kWidth>() {
            launch(ctx, blocks, kThreads, 0, partial_sums_kernel<T, kWidth, kSquare>, partials,
                   device_data<T>(x), count);
        };
        if (allows_vectors(x.flat()))
            run.template operator()<kVector<T>>();
        else
            run.template operator()<1>();
    });
    launch(ctx, 1, kThreads, 0, total_sum_kernel, sum.data<double>(), partials, blocks,
           update == Update::kAccumulate);
}

}  // namespace

void sum(CudaContext& ctx, Tensor sum, ConstTensor x, Update update) {
    if (x.dtype() != DType::kF64) return reduce<false>(ctx, sum, x, update);
    launch(ctx, 1, kThreads, 0, total_sum_kernel, sum.data<double>(), x.data<double>(), x.numel(),
           update == Update::kAccumulate);
}

void sum_of_squares(CudaContext& ctx, Tensor sum, ConstTensor x, Update update) {
    reduce<true>(ctx, sum, x, update);
}

void piece_sums_of_squares(CudaContext& ctx, Tensor sums, ConstTensor x) {
    launch(ctx, sums.numel(), kThreads, 0, piece_sums_kernel, sums.data<double>(), x.data<float>());
}

void sum_rows(CudaContext& ctx, Tensor y, ConstTensor x, Update update) {
    visit_float_type(x.dtype(), [&]<typename T>() {
        launch(ctx, ceil_div(y.numel(), kThreads), kThreads, 0, sum_rows_kernel<T>, y.data<float>(),
               device_data<T>(x), x.size(0), x.size(1), update == Update::kAccumulate);
    });
}

int64_t sum_scratch_bytes(CudaContext&, int64_t count) {
    return align_up(sum_blocks(count) * size_of(DType::kF64));
}

}  // namespace pastur
