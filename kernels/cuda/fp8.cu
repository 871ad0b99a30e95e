#include "kernels/fp8.h"

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_groups.cuh"

namespace pastur {
namespace {

/// 768 columns of bf16 for a warp, 4096 for four, 12288 for eight.
constexpr KeptPacks kKept{3, 4, 6};

template <typename T, int kWidth, int kGroup>
__global__ void __launch_bounds__(kGroupThreads<kGroup>)
    quantize_rows_kernel(F8Output out, Rows<const T> x, int64_t rows) {
    using Pack = Packed<T, kWidth>;
    constexpr int kPacks = kPacksOf<kKept, kGroup>;
    __shared__ float shared[1][kWarpsOf<kGroup>];
    const int64_t row =
        static_cast<int64_t>(blockIdx.x) * (kGroupThreads<kGroup> / kGroup) + threadIdx.x / kGroup;
    if (row >= rows) return;
    const int thread = threadIdx.x % kGroup, count = out.width / kWidth;
    const int tail = tail_begin<kGroup, kPacks>(thread, count);
    const T* from = x[row];

    Pack kept[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
        if (thread + p * kGroup < count) kept[p] = Pack::load(from + (thread + p * kGroup) * kWidth);
    float largest = 0;
    const auto look_at = [&](const Pack& pack) { largest = fmaxf(largest, largest_of<kWidth>(pack)); };
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
        if (thread + p * kGroup < count) look_at(kept[p]);
    for (int v = tail; v < count; v += kGroup) look_at(Pack::load(from + v * kWidth));
    largest = group_max<kGroup>(largest, shared, 0);

    const Fp8Scale scale(largest);
    if (thread == 0) out.scales[row] = scale.scale;
    const auto write = [&](const Pack& pack, int column) { out.store<kWidth>(row, column, scale, pack); };
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
        if (thread + p * kGroup < count) write(kept[p], (thread + p * kGroup) * kWidth);
    for (int v = tail; v < count; v += kGroup) write(Pack::load(from + v * kWidth), v * kWidth);
}

constexpr int kColumns = kWarp;            // of a block, one a lane
constexpr int kWarps = 8;                  // each has every eighth row
constexpr int kPartRows = 256;             // that a block looks for the largest number
constexpr int kTileRows = 4 * kWarp;       // that a block turns around
constexpr int kTilePitch = kTileRows + 4;  // bytes: lanes meet different banks

/// largest[c] = the larger of it and max_n |x[n, c]|. blockIdx: (columns, rows) / (kColumns, kPartRows). A
/// maximum is the same in any order, and of numbers that are not negative the bits order as they do.
template <typename T>
__global__ void __launch_bounds__(kWarp* kWarps)
    largest_of_columns_kernel(float* largest, const T* x, int64_t rows, int64_t columns) {
    __shared__ float shared[kWarps][kColumns];
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
    const int64_t begin = static_cast<int64_t>(blockIdx.y) * kPartRows, end = min(begin + kPartRows, rows);
    float mine = 0;
    if (column < columns) {
#pragma unroll 8
        for (int64_t row = begin + warp; row < end; row += kWarps)
            mine = fmaxf(mine, fabsf(to_float(x[row * columns + column])));
    }
    shared[warp][lane] = mine;
    __syncthreads();
    if (warp > 0 || column >= columns) return;
    for (int w = 1; w < kWarps; ++w) mine = fmaxf(mine, shared[w][lane]);
    atomicMax(reinterpret_cast<int*>(largest + column), __float_as_int(mine));
}

/// out.values [columns, rows] of x [rows, columns], contiguous, whose columns' largest numbers out.scales
/// still holds. blockIdx: (columns, rows) / (kColumns, kTileRows).
template <typename T>
__global__ void __launch_bounds__(kWarp* kWarps)
    turn_columns_kernel(F8Output out, const T* x, int64_t rows, int64_t columns) {
    __shared__ alignas(4) uint8_t tile[kColumns][kTilePitch];
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * kColumns, column = first + lane;
    const int64_t begin = static_cast<int64_t>(blockIdx.y) * kTileRows;
    if (column < columns) {
        const Fp8Scale scale(out.scales[column]);
#pragma unroll 4
        for (int i = warp; i < kTileRows; i += kWarps)
            if (begin + i < rows)
                tile[lane][i] = round_to_f8(to_float(x[(begin + i) * columns + column]) * scale.inverse);
    }
    __syncthreads();
    for (int c = warp; c < kColumns && first + c < columns; c += kWarps) {
        uint8_t* to = out.values + (first + c) * rows + begin;
        if (rows % 4 == 0 && reinterpret_cast<uintptr_t>(to) % 4 == 0) {  // words, each within the row
            if (begin + 4 * lane < rows)
                reinterpret_cast<uint32_t*>(to)[lane] = reinterpret_cast<const uint32_t*>(tile[c])[lane];
        } else {
            for (int i = lane; i < kTileRows && begin + i < rows; i += kWarp) to[i] = tile[c][i];
        }
    }
}

/// scales = those of rows whose largest numbers they hold.
__global__ void scale_kernel(float* scales, int64_t count) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) scales[i] = Fp8Scale(scales[i]).scale;
}

}  // namespace

void quantize_rows(CudaContext& ctx, const Fp8Rows& out, ConstTensor x) {
    const int64_t rows = x.size(0), width = x.size(1);
    const bool aligned = allows_vectors(x) && allows_f8_vectors(out);
    visit_float_type(x.dtype(), [&]<typename T>() {
        visit_row_shape<T, kKept>(width, aligned, [&]<int kWidth, int kGroup>() {
            launch(ctx, ceil_div(rows, kGroupThreads<kGroup> / kGroup), kGroupThreads<kGroup>, 0,
                   quantize_rows_kernel<T, kWidth, kGroup>, f8_output(out), rows_of<T>(x), rows);
        });
    });
}

void quantize_columns(CudaContext& ctx, const Fp8Rows& out, ConstTensor w) {
    const int64_t rows = w.size(0), columns = w.size(1), across = ceil_div(columns, kColumns);
    const F8Output output = f8_output(out);
    CUDA_CHECK(
        cudaMemsetAsync(output.scales, 0, static_cast<size_t>(out.scales.nbytes()), ctx.handles().stream));
    visit_float_type(w.dtype(), [&]<typename T>() {
        const T* x = device_data<T>(w);
        launch(ctx, dim3(across, ceil_div(rows, kPartRows)), dim3(kWarp, kWarps), 0,
               largest_of_columns_kernel<T>, output.scales, x, rows, columns);
        launch(ctx, dim3(across, ceil_div(rows, kTileRows)), dim3(kWarp, kWarps), 0, turn_columns_kernel<T>,
               output, x, rows, columns);
    });
    launch(ctx, ceil_div(columns, 256), 256, 0, scale_kernel, output.scales, columns);
}

int64_t fp8_product_scratch_bytes(CudaContext&, int64_t, int64_t, int64_t) {
    return 0;
}

}  // namespace pastur
