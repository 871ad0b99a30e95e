// Rounding columns to e4m3, which become the rows of the transposed matrix. A column's scale is that of its
// largest number, so that every number is read twice: the columns go in chunks that L2 still holds the second
// time.
#include <algorithm>

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/fp8.h"

namespace pastur {
namespace {

constexpr int kWarps = 8;
constexpr int64_t kChunkBytes = 24 << 20;  // of an L2 of 50 MiB; also what is written goes through it
constexpr int kPartRows = 128;             // that a block looks for the largest numbers
template <int kWidth>
constexpr int kPartColumns = kWarp* kWidth;

/// What of a matrix is rounded.
template <typename T>
struct Columns {
    Rows<const T> x;
    int64_t rows, first, end;
};

/// largest[c] = the larger of it and max_n |x[n, c]|. blockIdx: (columns, rows) / (kPartColumns, kPartRows);
/// a thread has kWidth columns of every eighth row. A maximum is the same in any order, and of numbers that
/// are not negative the bits order as they do.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kWarp* kWarps)
    largest_of_columns_kernel(float* largest, const Columns<T> part) {
    __shared__ float shared[kWarps][kPartColumns<kWidth>];
    const int lane = threadIdx.x, warp = threadIdx.y;
    const int64_t block = part.first + static_cast<int64_t>(blockIdx.x) * kPartColumns<kWidth>;
    const int64_t column = block + lane * kWidth;
    const int64_t begin = static_cast<int64_t>(blockIdx.y) * kPartRows;
    const int64_t end = min(begin + kPartRows, part.rows);
    float mine[kWidth] = {};
    if (column < part.end) {
#pragma unroll 8
        for (int64_t row = begin + warp; row < end; row += kWarps) {
            const auto pack = Packed<T, kWidth>::load(part.x[row] + column);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) mine[i] = fmaxf(mine[i], fabsf(pack[i]));
        }
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) shared[warp][lane * kWidth + i] = mine[i];
    __syncthreads();
    for (int c = warp * kWarp + lane; c < kPartColumns<kWidth>; c += kWarps * kWarp) {
        if (block + c >= part.end) return;
        float most = shared[0][c];
#pragma unroll
        for (int w = 1; w < kWarps; ++w) most = fmaxf(most, shared[w][c]);
        atomicMax(reinterpret_cast<int*>(largest + block + c), __float_as_int(most));
    }
}

// A tile that a block turns around: its warps read rows of eight threads' columns, each thread four rows at a
// time, which are a word of a column, and write whole columns of the tile.
constexpr int kAcross = 8;
constexpr int kRowsAtOnce = kWarp * kWarps / kAcross * 4, kTileRows = 2 * kRowsAtOnce;
constexpr int kTilePitch = kTileRows / 4 + 1;  // words: lanes meet different banks, or two one bank
template <int kWidth>
constexpr int kTileColumns = kAcross* kWidth;

/// out.values [columns, rows] of the columns whose largest numbers out.scales still holds. blockIdx:
/// (columns, rows) / (kTileColumns, kTileRows).
template <typename T, int kWidth>
__global__ void __launch_bounds__(kWarp* kWarps) turn_columns_kernel(F8Output out, const Columns<T> part) {
    using Pack = Packed<T, kWidth>;
    __shared__ uint32_t tile[kTileColumns<kWidth>][kTilePitch];
    const int thread = threadIdx.y * kWarp + threadIdx.x, across = thread % kAcross, down = thread / kAcross;
    const int64_t first = part.first + static_cast<int64_t>(blockIdx.x) * kTileColumns<kWidth>;
    const int64_t column = first + across * kWidth;
    const int64_t begin = static_cast<int64_t>(blockIdx.y) * kTileRows;
    constexpr int kTurns = kTileRows / kRowsAtOnce;
    if (column < part.end) {
        Pack packs[kTurns][4] = {};
#pragma unroll
        for (int turn = 0; turn < kTurns; ++turn)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int64_t row = begin + turn * kRowsAtOnce + down * 4 + i;
                if (row < part.rows) packs[turn][i] = Pack::load(part.x[row] + column);
            }
#pragma unroll
        for (int c = 0; c < kWidth; ++c) {
            const float inverse = Fp8Scale(out.scales[column + c]).inverse;
#pragma unroll
            for (int turn = 0; turn < kTurns; ++turn)
                store_f8<4>(
                    reinterpret_cast<uint8_t*>(&tile[across * kWidth + c][turn * (kRowsAtOnce / 4) + down]),
                    [&](int i) { return packs[turn][i][c] * inverse; });
        }
    }
    __syncthreads();
    for (int c = threadIdx.y; c < kTileColumns<kWidth> && first + c < part.end; c += kWarps) {
        uint8_t* to = out.values + (first + c) * part.rows + begin;
        if (part.rows % 4 == 0 && reinterpret_cast<uintptr_t>(to) % 4 == 0) {
#pragma unroll
            for (int word = threadIdx.x; word < kTileRows / 4; word += kWarp)
                if (begin + 4 * word < part.rows) reinterpret_cast<uint32_t*>(to)[word] = tile[c][word];
        } else {
            const auto* from = reinterpret_cast<const uint8_t*>(tile[c]);
            for (int i = threadIdx.x; i < kTileRows && begin + i < part.rows; i += kWarp) to[i] = from[i];
        }
    }
}

/// scales = those of columns whose largest numbers they hold.
__global__ void scale_kernel(float* scales, int64_t count) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) scales[i] = Fp8Scale(scales[i]).scale;
}

template <typename T, int kWidth>
void quantize_chunk(CudaContext& ctx, const F8Output& out, const Columns<T>& part) {
    const int64_t columns = part.end - part.first;
    const dim3 threads(kWarp, kWarps);
    launch(ctx, dim3(ceil_div(columns, kPartColumns<kWidth>), ceil_div(part.rows, kPartRows)), threads, 0,
           largest_of_columns_kernel<T, kWidth>, out.scales, part);
    launch(ctx, dim3(ceil_div(columns, kTileColumns<kWidth>), ceil_div(part.rows, kTileRows)), threads, 0,
           turn_columns_kernel<T, kWidth>, out, part);
}

}  // namespace

void quantize_columns(CudaContext& ctx, const Fp8Rows& out, ConstTensor x) {
    const int64_t rows = x.size(0), columns = x.size(1);
    const F8Output output = f8_output(out);
    CUDA_CHECK(
        cudaMemsetAsync(output.scales, 0, static_cast<size_t>(out.scales.nbytes()), ctx.handles().stream));
    visit_float_type(x.dtype(), [&]<typename T>() {
        const int64_t fitting = kChunkBytes / (rows * static_cast<int64_t>(sizeof(T)));
        const int64_t most = kPartColumns<kVector<T>>;
        const int64_t chunk = std::max(fitting / most, int64_t{1}) * most;
        for (int64_t first = 0; first < columns; first += chunk) {
            const Columns<T> part{rows_of<T>(x), rows, first, std::min(first + chunk, columns)};
            if (allows_vectors(x) && columns % kVector<T> == 0)
                quantize_chunk<T, kVector<T>>(ctx, output, part);
            else
                quantize_chunk<T, 1>(ctx, output, part);
        }
    });
    launch(ctx, ceil_div(columns, 256), 256, 0, scale_kernel, output.scales, columns);
}

}  // namespace pastur
