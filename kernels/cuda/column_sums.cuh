#pragma once
// Sums over the rows of a matrix, one for each column, in a fixed order: groups of threads (row_groups.cuh)
// keep sums of their rows in registers, blocks write them as partial sums, and a second kernel adds those.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_groups.cuh"

namespace pastur {

/// Adds the sums of a block's groups in ascending order and writes them as the block's row of the partial
/// sums. sums[p][i] of thread t belongs to column (t + kGroup p) kWidth + i. Columns beyond the kPacks
/// vectors of the threads are left to the caller.
template <int kWidth, int kGroup, int kPacks>
__device__ void write_partials(float* partials, const float (&sums)[kPacks][kWidth], int width) {
    __shared__ float total[kPacks * kGroup * kWidth];
    constexpr int kGroups = kGroupThreads<kGroup> / kGroup;
    const int thread = threadIdx.x % kGroup, group = threadIdx.x / kGroup;
    for (int turn = 0; turn < kGroups; ++turn) {
        if (group == turn) {
#pragma unroll
            for (int p = 0; p < kPacks; ++p)
                for (int i = 0; i < kWidth; ++i) {
                    float& to = total[(thread + p * kGroup) * kWidth + i];
                    to = turn == 0 ? sums[p][i] : to + sums[p][i];
                }
        }
        __syncthreads();
    }
    const int columns = min(width, kPacks * kGroup * kWidth);
    for (int c = threadIdx.x; c < columns; c += kGroupThreads<kGroup>) partials[c] = total[c];
}

/// Resident threads of a kernel that keeps sums of columns, on each multiprocessor, which leaves 128 registers per
/// thread.
inline constexpr int kResidentThreads = 512;

/// Number of blocks of such a kernel with `threads` per block in groups of `group`, which is the number of rows of its
/// partial sums: kResidentThreads per multiprocessor, and at most one block for every threads / group rows.
inline int64_t column_sum_blocks(CudaContext& ctx, int64_t rows, int threads, int group) {
    const int64_t resident =
        int64_t{ctx.handles().properties.multiProcessorCount} * (kResidentThreads / threads);
    return std::min(ceil_div(rows, threads / group), resident);
}

/// Bytes of the partial sums of `columns` columns, for the largest number of blocks among the choices of
/// visit_row_shape().
inline int64_t partial_sums_bytes(CudaContext& ctx, int64_t rows, int64_t columns) {
    return align_up(column_sum_blocks(ctx, rows, 128, 128) * columns * size_of(DType::kF32));
}

inline constexpr int kSumRows = 16;

/// sums[c] = or += sum_b partials[b stride + c] for c < width. A block owns 32 columns: warp y adds rows y, y
/// + 16, ... in order, then the first warp adds the 16 sums in order.
template <int kRows>
__global__ void __launch_bounds__(kWarp* kRows)
    sum_partials_kernel(float* sums, const float* partials, int blocks, int width, int stride,
                        bool accumulate) {
    __shared__ float shared[kRows][kWarp];
    const int column = static_cast<int>(blockIdx.x) * kWarp + threadIdx.x;
    float sum = 0;
    if (column < width) {
#pragma unroll 4
        for (int b = threadIdx.y; b < blocks; b += kRows)
            sum += partials[static_cast<int64_t>(b) * stride + column];
    }
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= width) return;
    sum = 0;
    for (int y = 0; y < kRows; ++y) sum += shared[y][threadIdx.x];
    sums[column] = accumulate ? sums[column] + sum : sum;
}

/// sums f32 [width] = or += the sum of the partial sums of `blocks` blocks, `stride` floats apart.
inline void sum_partials(CudaContext& ctx, Tensor sums, Update update, const float* partials, int64_t blocks,
                         int64_t stride) {
    const int64_t width = sums.size(0);
    launch(ctx, ceil_div(width, kWarp), dim3(kWarp, kSumRows), 0, sum_partials_kernel<kSumRows>,
           sums.data<float>(), partials, blocks, width, stride, update == Update::kAccumulate);
}

}  // namespace pastur
