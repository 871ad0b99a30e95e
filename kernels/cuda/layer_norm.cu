#include "kernels/layer_norm.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/reciprocal_rms.h"

namespace pastur {

namespace {

/// Registers hold 768 columns of bf16 for a warp, 384 for half a warp, 2048 for four warps, 4096 for eight.
constexpr KeptPacks kKept{3, 2, 2, true};
template <int kGroup>
constexpr int kPacks = kPacksOf<kKept, kGroup>;

/// out = (x - mean) rstd weight + bias. One group per row; its thread t owns columns (t + kGroup j) kWidth to
/// + kWidth. Columns beyond the kept ones are read again for each of the three passes. width is a multiple of
/// kWidth; rows are aligned for Packed<T, kWidth>.
template <typename T, int kWidth, int kGroup>
__global__ void __launch_bounds__(kGroupThreads<kGroup>)
    layer_norm_forward_kernel(Rows<T> out, float* mean, float* rstd, Rows<const T> x, const float* weight,
                              const float* bias, int64_t rows, int width, float eps) {
    using Pack = Packed<T, kWidth>;
    __shared__ float shared[2][kWarpsOf<kGroup>];
    const int64_t row =
        static_cast<int64_t>(blockIdx.x) * (kGroupThreads<kGroup> / kGroup) + threadIdx.x / kGroup;
    if (row >= rows) return;
    const int thread = threadIdx.x % kGroup, count = width / kWidth;
    const int tail = tail_begin<kGroup, kPacks<kGroup>>(thread, count);
    const T* from = x[row];
    T* to = out[row];

    Pack kept[kPacks<kGroup>];
    float sum = 0, squares = 0;
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count) kept[p] = Pack::load(from + (thread + p * kGroup) * kWidth);
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count)
            for (int i = 0; i < kWidth; ++i) sum += kept[p][i];
    for (int v = tail; v < count; v += kGroup) {
        const Pack pack = Pack::load(from + v * kWidth);
        for (int i = 0; i < kWidth; ++i) sum += pack[i];
    }
    const float centre = group_sum<kGroup>(sum, shared, 0) / static_cast<float>(width);
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count)
            for (int i = 0; i < kWidth; ++i) squares += (kept[p][i] - centre) * (kept[p][i] - centre);
    for (int v = tail; v < count; v += kGroup) {
        const Pack pack = Pack::load(from + v * kWidth);
        for (int i = 0; i < kWidth; ++i) squares += (pack[i] - centre) * (pack[i] - centre);
    }
    const float variance = group_sum<kGroup>(squares, shared, 1) / static_cast<float>(width);
    const float scale = reciprocal_rms(variance, eps);
    if (thread == 0) {
        mean[row] = centre;
        rstd[row] = scale;
    }
    const auto write = [&](const Pack& pack, int column) {
        const auto gamma = Packed<float, kWidth>::load(weight + column);
        const auto beta = Packed<float, kWidth>::load(bias + column);
        Pack::of([&](int i) { return (pack[i] - centre) * scale * gamma[i] + beta[i]; }).store(to + column);
    };
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count) write(kept[p], (thread + p * kGroup) * kWidth);
    for (int v = tail; v < count; v += kGroup) write(Pack::load(from + v * kWidth), v * kWidth);
}

template <typename T>
struct LayerNormBackwardParams {
    Rows<T> dx;
    float* partials;  ///< [blocks, 2, width]: the sums of dy xhat and of dy over the rows of each block
    Rows<const T> dy, x;
    const float *mean, *rstd, *weight;
    int64_t rows;
    int width;
};

/// dx = (g - mean_c g - xhat mean_c(xhat g)) rstd with g = weight dy and xhat = (x - mean) rstd; partials =.
/// Groups stride over the rows by the number of groups in the grid and keep the sums of their columns in
/// registers. Columns beyond the kept ones (only where a group is a block) accumulate in the block's own row
/// of the partial sums, each by the thread that owns it. width is a multiple of kWidth; rows are aligned for
/// Packed<T, kWidth>; there are no more blocks than rows.
template <typename T, int kWidth, int kGroup>
__global__ void __launch_bounds__(kGroupThreads<kGroup>, kResidentThreads / kGroupThreads<kGroup>)
    layer_norm_backward_kernel(LayerNormBackwardParams<T> params) {
    using Pack = Packed<T, kWidth>;
    using Floats = Packed<float, kWidth>;
    __shared__ float shared_sum[2][kWarpsOf<kGroup>], shared_projection[2][kWarpsOf<kGroup>];
    constexpr int kGroups = kGroupThreads<kGroup> / kGroup;
    const int thread = threadIdx.x % kGroup, count = params.width / kWidth;
    const int tail = tail_begin<kGroup, kPacks<kGroup>>(thread, count);
    const int64_t first = static_cast<int64_t>(blockIdx.x) * kGroups + threadIdx.x / kGroup;
    float* dweights = params.partials + static_cast<int64_t>(blockIdx.x) * 2 * params.width;
    float* dbiases = dweights + params.width;
    float dweight[kPacks<kGroup>][kWidth] = {}, dbias[kPacks<kGroup>][kWidth] = {};

    int parity = 0;
    for (int64_t row = first; row < params.rows;
         row += static_cast<int64_t>(gridDim.x) * kGroups, parity ^= 1) {
        const T *x = params.x[row], *dy = params.dy[row];
        const float centre = params.mean[row], rstd = params.rstd[row];
        const auto xhat = [&](const Pack& pack, int i) { return (pack[i] - centre) * rstd; };
        Pack kept_x[kPacks<kGroup>], kept_dy[kPacks<kGroup>];
#pragma unroll
        for (int p = 0; p < kPacks<kGroup>; ++p) {
            const int v = thread + p * kGroup;
            if (v < count) {
                kept_x[p] = Pack::load(x + v * kWidth);
                kept_dy[p] = Pack::load(dy + v * kWidth);
            }
        }
        float sum = 0, projection = 0;
#pragma unroll
        for (int p = 0; p < kPacks<kGroup>; ++p) {
            const int v = thread + p * kGroup;
            if (v < count) {
                const Floats weight = Floats::load(params.weight + v * kWidth);
                for (int i = 0; i < kWidth; ++i) {
                    const float product = kept_dy[p][i] * xhat(kept_x[p], i);
                    sum += weight[i] * kept_dy[p][i];
                    projection += weight[i] * product;
                    dweight[p][i] += product;
                    dbias[p][i] += kept_dy[p][i];
                }
            }
        }
        for (int v = tail; v < count; v += kGroup) {
            const Pack pack_x = Pack::load(x + v * kWidth), pack_dy = Pack::load(dy + v * kWidth);
            const Floats weight = Floats::load(params.weight + v * kWidth);
            const Floats before = row == first ? Floats{} : Floats::load(dweights + v * kWidth);
            const Floats bias_before = row == first ? Floats{} : Floats::load(dbiases + v * kWidth);
            for (int i = 0; i < kWidth; ++i) {
                sum += weight[i] * pack_dy[i];
                projection += weight[i] * pack_dy[i] * xhat(pack_x, i);
            }
            Floats::of([&](int i) {
                return before[i] + pack_dy[i] * xhat(pack_x, i);
            }).store(dweights + v * kWidth);
            Floats::of([&](int i) { return bias_before[i] + pack_dy[i]; }).store(dbiases + v * kWidth);
        }

        const float constant = group_sum<kGroup>(sum, shared_sum, parity) / static_cast<float>(params.width);
        const float along =
            group_sum<kGroup>(projection, shared_projection, parity) / static_cast<float>(params.width);
        const auto write = [&](const Pack& pack_x, const Pack& pack_dy, int column) {
            const Floats weight = Floats::load(params.weight + column);
            Pack::of([&](int i) {
                return (weight[i] * pack_dy[i] - constant - xhat(pack_x, i) * along) * rstd;
            }).store(params.dx[row] + column);
        };
#pragma unroll
        for (int p = 0; p < kPacks<kGroup>; ++p) {
            const int v = thread + p * kGroup;
            if (v < count) write(kept_x[p], kept_dy[p], v * kWidth);
        }
        for (int v = tail; v < count; v += kGroup)
            write(Pack::load(x + v * kWidth), Pack::load(dy + v * kWidth), v * kWidth);
    }
    write_partials<kWidth, kGroup>(dweights, dweight, params.width);
    __syncthreads();  // before shared memory is written again
    write_partials<kWidth, kGroup>(dbiases, dbias, params.width);
}

}  // namespace

void layer_norm_forward(CudaContext& ctx, Tensor out, Tensor mean, Tensor rstd, ConstTensor x,
                        ConstTensor weight, ConstTensor bias, float eps) {
    const int64_t rows = x.size(0), width = x.size(1);
    const bool aligned =
        allows_vectors(out) && allows_vectors(x) && allows_vectors(weight) && allows_vectors(bias);
    visit_float_type(x.dtype(), [&]<typename T>() {
        visit_row_shape<T, kKept>(width, aligned, [&]<int kWidth, int kGroup>() {
            launch(ctx, ceil_div(rows, kGroupThreads<kGroup> / kGroup), kGroupThreads<kGroup>, 0,
                   layer_norm_forward_kernel<T, kWidth, kGroup>, rows_of<T>(out), mean.data<float>(),
                   rstd.data<float>(), rows_of<T>(x), weight.data<float>(), bias.data<float>(), rows, width,
                   eps);
        });
    });
}

void layer_norm_backward(CudaContext& ctx, const LayerNormBackward& p) {
    const int64_t rows = p.x.size(0), width = p.x.size(1);
    const bool aligned =
        allows_vectors(p.dx) && allows_vectors(p.dy) && allows_vectors(p.x) && allows_vectors(p.weight);
    Arena::Frame frame(ctx.scratch(), "layer_norm_backward");
    visit_float_type(p.x.dtype(), [&]<typename T>() {
        visit_row_shape<T, kKept>(width, aligned, [&]<int kWidth, int kGroup>() {
            const int64_t blocks = column_sum_blocks(ctx, rows, kGroupThreads<kGroup>, kGroup);
            float* partials = frame.take(DType::kF32, {blocks, 2, width}).template data<float>();
            const LayerNormBackwardParams<T> params{.dx = rows_of<T>(p.dx),
                                                    .partials = partials,
                                                    .dy = rows_of<T>(p.dy),
                                                    .x = rows_of<T>(p.x),
                                                    .mean = p.mean.data<float>(),
                                                    .rstd = p.rstd.data<float>(),
                                                    .weight = p.weight.data<float>(),
                                                    .rows = rows,
                                                    .width = static_cast<int>(width)};
            launch(ctx, blocks, kGroupThreads<kGroup>, 0, layer_norm_backward_kernel<T, kWidth, kGroup>,
                   params);
            sum_partials(ctx, p.dweight, p.update, partials, blocks, 2 * width);
            sum_partials(ctx, p.dbias, p.update, partials + width, blocks, 2 * width);
        });
    });
}

int64_t layer_norm_backward_scratch_bytes(CudaContext& ctx, int64_t rows, int64_t width) {
    return partial_sums_bytes(ctx, rows, 2 * width);
}

}  // namespace pastur
