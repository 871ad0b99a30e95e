#include "kernels/optimizer/muon.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/optimizer/rounded_store.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 256;
/// Side of the square tiles in which normalise_kernel and update_kernel move a matrix, and the rows of a tile
/// that a block of kTile x kTileRows threads processes at a time.
constexpr int kTile = 32, kTileRows = 8;

struct MuonKernelParams {
    Rows<float> momentum;
    Rows<const float> grad;
    const double* sums;
    int sum_count;
    double *row_squares, *squares;
    int64_t rows, columns;
    bool transposed;
    float lr, mu, weight_decay, max_norm;
    float size;    ///< 0.2 sqrt(max(rows, columns))
    float filler;  ///< size of the numbers that replace a zero x
};

/// m = mu m + (1 - mu) g and row_squares[r] = the sum of n^2 over row r, n = mu m + (1 - mu) g, in double.
/// One block per row; its threads stride over the columns one by one, so the order of the sum does not depend
/// on the alignment of the rows. 0 and nothing else if adamw_accepts() refuses the sums.
__global__ void __launch_bounds__(kThreads) muon_momentum_kernel(MuonKernelParams p) {
    __shared__ double shared[kThreads / kWarp];
    const int64_t row = blockIdx.x;
    double sum = 0;
    if (adamw_accepts(p.sums, p.sum_count, p.max_norm)) {
        const float clip = clip_factor(p.sums[0], p.max_norm);
        float* momentum = p.momentum[row];
        const float* grad = p.grad[row];
        for (int64_t i = threadIdx.x; i < p.columns; i += kThreads) {
            const float g = (1.0f - p.mu) * (grad[i] * clip);
            const float m = p.mu * momentum[i] + g;
            momentum[i] = m;
            const double n = p.mu * m + g;
            sum += n * n;
        }
    }
    sum = block_sum<kThreads>(sum, shared);
    if (threadIdx.x == 0) p.row_squares[row] = sum;
}

/// n / |n| or its filler at (row, column) of the matrix; 0 beyond the matrix.
__device__ float normalised_at(const MuonKernelParams& p, int64_t row, int64_t column, float scale,
                               float clip) {
    if (row >= p.rows || column >= p.columns) return 0;
    if (scale == 0) return muon_filler(row, column) * p.filler;
    return (p.mu * p.momentum[row][column] + (1.0f - p.mu) * (p.grad[row][column] * clip)) * scale;
}

/// x [height, width] =, the normalised direction or its transpose. A block writes one tile of x; the tile
/// passes through shared memory, so global accesses are along rows on both sides.
template <typename T>
__global__ void __launch_bounds__(kTile* kTileRows)
    muon_normalise_kernel(T* x, int64_t height, int64_t width, MuonKernelParams p) {
    __shared__ float tile[kTile][kTile + 1];
    const float scale = reciprocal_norm(*p.squares), clip = clip_factor(p.sums[0], p.max_norm);
    const int64_t top = static_cast<int64_t>(blockIdx.y) * kTile,
                  left = static_cast<int64_t>(blockIdx.x) * kTile;
    for (int i = threadIdx.y; i < kTile; i += kTileRows) {
        const int64_t row = (p.transposed ? left : top) + i,
                      column = (p.transposed ? top : left) + threadIdx.x;
        tile[i][threadIdx.x] = normalised_at(p, row, column, scale, clip);
    }
    __syncthreads();
    for (int i = threadIdx.y; i < kTile; i += kTileRows)
        if (top + i < height && left + threadIdx.x < width)
            x[(top + i) * width + left + threadIdx.x] =
                from_float<T>(p.transposed ? tile[threadIdx.x][i] : tile[i][threadIdx.x]);
}

/// squared = a I + b gram + c squared. One element per thread.
template <typename T>
__global__ void __launch_bounds__(kThreads) muon_polynomial_kernel(T* squared, const T* gram, int64_t side) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= side * side) return;
    float value = kNewtonSchulzB * to_float(gram[i]) + kNewtonSchulzC * to_float(squared[i]);
    if (i % (side + 1) == 0) value += kNewtonSchulzA;
    squared[i] = from_float<T>(value);
}

/// What muon_update_kernel writes.
template <typename Weight>
struct MuonOutputs {
    using Compute = std::conditional_t<std::is_same_v<Weight, float>, bf16, float>;
    Rows<Weight> param;
    Rows<Compute> compute;  ///< data may be null
    int64_t step;
    RoundingParams rounding;
};

/// param -= lr (size x + weight_decay param) and compute =, where x [height, width] is transposed if
/// p.transposed. A block updates one tile of the matrix.
template <typename T, typename Weight>
__global__ void __launch_bounds__(kTile* kTileRows)
    muon_update_kernel(MuonOutputs<Weight> out, const T* x, int64_t height, int64_t width,
                       MuonKernelParams p) {
    __shared__ float tile[kTile][kTile + 1];
    if (!adamw_accepts(p.sums, p.sum_count, p.max_norm)) return;
    const int64_t top = static_cast<int64_t>(blockIdx.y) * kTile,
                  left = static_cast<int64_t>(blockIdx.x) * kTile;
    for (int i = threadIdx.y; i < kTile; i += kTileRows) {
        const int64_t row = (p.transposed ? left : top) + i,
                      column = (p.transposed ? top : left) + threadIdx.x;
        if (row < height && column < width) tile[i][threadIdx.x] = to_float(x[row * width + column]);
    }
    __syncthreads();
    const float size = reciprocal_norm(*p.squares) == 0 ? 0.0f : p.size;
    const int64_t column = left + threadIdx.x;
    for (int i = threadIdx.y; i < kTile; i += kTileRows) {
        const int64_t row = top + i;
        if (row >= p.rows || column >= p.columns) continue;
        const float direction = p.transposed ? tile[threadIdx.x][i] : tile[i][threadIdx.x];
        const float before = to_float(out.param[row][column]);
        const float after = store_rounded(number_rounding(out.rounding, out.step, RoundedNumber::kParam),
                                          &out.param[row][column],
                                          before - p.lr * (size * direction + p.weight_decay * before),
                                          out.rounding.first_element + row * out.param.stride + column);
        using Compute = typename MuonOutputs<Weight>::Compute;
        if (out.compute.data) out.compute[row][column] = from_float<Compute>(after);
    }
}

MuonKernelParams kernel_params(const MuonCall& call) {
    const MuonTensors& t = call.tensors;
    const int64_t rows = t.param.size(0), columns = t.param.size(1);
    return {.momentum = rows_of<float>(t.momentum),
            .grad = rows_of<float>(t.grad),
            .sums = call.sums.data<double>(),
            .sum_count = static_cast<int>(call.sums.numel()),
            .row_squares = call.row_squares.data<double>(),
            .squares = call.squares.data<double>(),
            .rows = rows,
            .columns = columns,
            .transposed = call.transposed(),
            .lr = call.params.lr,
            .mu = call.params.momentum,
            .weight_decay = call.params.weight_decay,
            .max_norm = call.params.max_norm,
            .size = muon_update_size(t.param),
            .filler = 1.0f / std::sqrt(static_cast<float>(rows * columns))};
}

dim3 tiles_of(int64_t rows, int64_t columns) {
    return {static_cast<unsigned>(ceil_div(columns, kTile)), static_cast<unsigned>(ceil_div(rows, kTile))};
}

}  // namespace

void muon_momentum(CudaContext& ctx, const MuonCall& call) {
    launch(ctx, call.tensors.param.size(0), kThreads, 0, muon_momentum_kernel, kernel_params(call));
}

void muon_normalise(CudaContext& ctx, Tensor x, const MuonCall& call) {
    visit_float_type(x.dtype(), [&]<typename T>() {
        launch(ctx, tiles_of(x.size(0), x.size(1)), dim3(kTile, kTileRows), 0, muon_normalise_kernel<T>,
               device_data<T>(x), x.size(0), x.size(1), kernel_params(call));
    });
}

void muon_polynomial(CudaContext& ctx, Tensor squared, ConstTensor gram) {
    visit_float_type(gram.dtype(), [&]<typename T>() {
        launch(ctx, ceil_div(gram.numel(), kThreads), kThreads, 0, muon_polynomial_kernel<T>,
               device_data<T>(squared), device_data<T>(gram), gram.size(0));
    });
}

void muon_update(CudaContext& ctx, ConstTensor x, const MuonCall& call) {
    const Tensor& param = call.tensors.param;
    visit_float_type(x.dtype(), [&]<typename T>() {
        visit_float_type(param.dtype(), [&]<typename Weight>() {
            using Compute = typename MuonOutputs<Weight>::Compute;
            const MuonOutputs<Weight> out{rows_of<Weight>(param), rows_of<Compute>(call.tensors.compute),
                                          call.params.step, call.params.rounding};
            launch(ctx, tiles_of(param.size(0), param.size(1)), dim3(kTile, kTileRows), 0,
                   muon_update_kernel<T, Weight>, out, device_data<T>(x), x.size(0), x.size(1),
                   kernel_params(call));
        });
    });
}

}  // namespace pastur
