#include "kernels/columns.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 32;                ///< of a block of center_columns_kernel
constexpr int kRows = kThreads / kColumns;  ///< rows that it reads at a time
constexpr int64_t kMaxBlocks = int64_t{1} << 16;

/// out[n, h width + i] = x[n / time, n % time, h, i]. A block walks over rows n; its threads over columns.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    flatten_heads_kernel(float* out, int64_t out_stride, const T* x, int64_t rows, int64_t time,
                         int64_t heads, int64_t width, int64_t batch_stride, int64_t token_stride,
                         int64_t head_stride) {
    for (int64_t n = blockIdx.x; n < rows; n += gridDim.x) {
        const T* token = x + n / time * batch_stride + n % time * token_stride;
        for (int64_t i = threadIdx.x; i < heads * width; i += kThreads)
            out[n * out_stride + i] = to_float(token[i / width * head_stride + i % width]);
    }
}

/// x[n, i] -= mean_n x[n, i]. A block owns 32 columns; thread (r, i) adds rows r, r + 8, ... and the 8 sums of a
/// column are added in ascending order.
__global__ void __launch_bounds__(kThreads) center_columns_kernel(float* x, int64_t rows, int64_t width) {
    __shared__ double sums[kRows][kColumns];
    const int lane = static_cast<int>(threadIdx.x) % kColumns,
              group = static_cast<int>(threadIdx.x) / kColumns;
    const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
    const bool inside = column < width;
    double sum = 0;
    if (inside) {
#pragma unroll 4
        for (int64_t n = group; n < rows; n += kRows) sum += x[n * width + column];
    }
    sums[group][lane] = sum;
    __syncthreads();
    if (!inside) return;
    double mean = sums[0][lane];
#pragma unroll
    for (int i = 1; i < kRows; ++i) mean += sums[i][lane];
    mean /= static_cast<double>(rows);
#pragma unroll 4
    for (int64_t n = group; n < rows; n += kRows)
        x[n * width + column] = static_cast<float>(x[n * width + column] - mean);
}

}  // namespace

void flatten_heads(CudaContext& ctx, Tensor out, ConstTensor x) {
    const int64_t rows = out.size(0);
    visit_float_type(x.dtype(), [&]<typename T>() {
        launch(ctx, std::min(rows, kMaxBlocks), kThreads, 0, flatten_heads_kernel<T>, out.data<float>(),
               out.stride(0), device_data<T>(x), rows, x.size(1), x.size(2), x.size(3), x.stride(0),
               x.stride(1), x.stride(2));
    });
}

void center_columns(CudaContext& ctx, Tensor x) {
    launch(ctx, ceil_div(x.size(1), kColumns), kThreads, 0, center_columns_kernel, x.data<float>(), x.size(0),
           x.size(1));
}

}  // namespace pastur
