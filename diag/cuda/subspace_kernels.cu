#include "diag/cuda/subspace_kernels.h"

#include "kernels/base/error.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 512;
constexpr int kRowWarps = kRowThreads / kWarp;

__global__ void repeat_block_kernel(double* __restrict__ x, const double* __restrict__ block,
                                    BlockShape shape) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < shape.numbers()) x[i] = block[i % (shape.rows * shape.width)];
}

/// Classical Gram-Schmidt, twice, which leaves the rows orthonormal to rounding (Giraud, Langou & Rozloznik, "The loss
/// of orthogonality in the Gram-Schmidt orthogonalization process", 2005). One block per item: a warp takes the products
/// of a row with every kRowWarps-th row before it; then a thread takes every kRowThreads-th column. Every sum has a fixed
/// order.
__global__ void __launch_bounds__(kRowThreads) orthonormalise_rows_kernel(double* x, BlockShape shape) {
    __shared__ double along[kBlockRows], sums[kRowWarps];
    double* const mine = x + blockIdx.x * shape.rows * shape.width;
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
    const int width = static_cast<int>(shape.width);
    for (int i = 0; i < static_cast<int>(shape.rows); ++i) {
        double* const row = mine + static_cast<int64_t>(i) * width;
        double squares = 0;
        for (int pass = 0; pass < 2; ++pass) {
            for (int j = warp; j < i; j += kRowWarps) {
                const double* const before = mine + static_cast<int64_t>(j) * width;
                double product = 0;
                for (int column = lane; column < width; column += kWarp)
                    product += before[column] * row[column];
                product = warp_sum(product);
                if (lane == 0) along[j] = product;
            }
            __syncthreads();
            squares = 0;
            for (int column = static_cast<int>(threadIdx.x); column < width; column += kRowThreads) {
                double value = row[column];
                for (int j = 0; j < i; ++j)
                    value -= along[j] * mine[static_cast<int64_t>(j) * width + column];
                row[column] = value;
                squares += value * value;
            }
            __syncthreads();
        }
        const double length = sqrt(block_sum<kRowThreads>(squares, sums));
        for (int column = static_cast<int>(threadIdx.x); column < width; column += kRowThreads)
            if (length > 0) row[column] /= length;
        __syncthreads();
    }
}

/// One block per row.
__global__ void residual_norms_kernel(double* __restrict__ norms, const double* __restrict__ x,
                                      const double* __restrict__ image, const double* __restrict__ values,
                                      BlockShape shape) {
    __shared__ double sums[kThreads / kWarp];
    const int64_t row = blockIdx.x;
    double squares = 0;
    for (int64_t i = row * shape.width + threadIdx.x; i < (row + 1) * shape.width; i += kThreads) {
        const double difference = image[i] - values[row] * x[i];
        squares += difference * difference;
    }
    squares = block_sum<kThreads>(squares, sums);
    if (threadIdx.x == 0) norms[row] = sqrt(squares);
}

__global__ void combine_blocks_kernel(double* __restrict__ image, const double* current,
                                      const double* previous, const FilterStep* __restrict__ steps,
                                      BlockShape shape) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= shape.numbers()) return;
    const FilterStep step = steps[i / (shape.rows * shape.width)];
    image[i] = step.alpha * image[i] + step.beta * current[i] + step.gamma * previous[i];
}

unsigned blocks_for(int64_t numbers) {
    return static_cast<unsigned>(ceil_div(numbers, kThreads));
}

}  // namespace

void repeat_block(cudaStream_t stream, double* x, const double* block, const BlockShape& shape) {
    launch_beside(stream, blocks_for(shape.numbers()), kThreads, repeat_block_kernel, x, block, shape);
}

void orthonormalise_rows(cudaStream_t stream, double* x, const BlockShape& shape) {
    PASTUR_CHECK(shape.rows <= kBlockRows, "a block of {} rows, at most {}", shape.rows, kBlockRows);
    launch_beside(stream, static_cast<unsigned>(shape.items), kRowThreads, orthonormalise_rows_kernel, x,
                  shape);
}

void residual_norms(cudaStream_t stream, double* norms, const double* x, const double* image,
                    const double* values, const BlockShape& shape) {
    launch_beside(stream, static_cast<unsigned>(shape.items * shape.rows), kThreads, residual_norms_kernel,
                  norms, x, image, values, shape);
}

void combine_blocks(cudaStream_t stream, double* image, const double* current, const double* previous,
                    const FilterStep* steps, const BlockShape& shape) {
    launch_beside(stream, blocks_for(shape.numbers()), kThreads, combine_blocks_kernel, image, current,
                  previous, steps, shape);
}

}  // namespace pastur
