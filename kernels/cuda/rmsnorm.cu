#include "kernels/rmsnorm.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/fp8.cuh"
#include "kernels/fp8.h"
#include "kernels/reciprocal_rms.h"

namespace pastur {

namespace {

/// The rows of a tensor [N, C] or [N, H, C] on the device; strides are in elements. data is null if the tensor
/// is empty.
template <typename T>
struct HeadRows {
    T* data;
    int64_t stride, head_stride;
    unsigned heads;  ///< with more than one, there are fewer than 2^32 rows
    __device__ T* operator[](int64_t row) const {
        if (heads == 1) return data + row * stride;
        const unsigned token = static_cast<unsigned>(row) / heads, head = static_cast<unsigned>(row) % heads;
        return data + token * stride + head * head_stride;
    }
};

template <typename T, typename Byte>
auto head_rows_of(const TensorView<Byte>& tensor) {
    using Element = std::remove_pointer_t<decltype(device_data<T>(tensor))>;
    if (tensor.empty()) return HeadRows<Element>{nullptr, 0, 0, 1};
    if (tensor.rank() == 2) return HeadRows<Element>{device_data<T>(tensor), tensor.stride(0), 0, 1};
    PASTUR_CHECK(tensor.size(0) * tensor.size(1) < int64_t{1} << 32, "rmsnorm: {}", describe(tensor));
    return HeadRows<Element>{device_data<T>(tensor), tensor.stride(0), tensor.stride(1),
                             static_cast<unsigned>(tensor.size(1))};
}

/// Registers hold 768 columns of bf16 for a warp, 384 for half a warp, 2048 for four warps, 4096 for eight.
constexpr KeptPacks kKept{3, 2, 2, true};
template <int kGroup>
constexpr int kPacks = kPacksOf<kKept, kGroup>;

/// Writes the quantised `row` of out. `kept` holds the thread's first vectors of the row; the others are read
/// from `numbers`, the whole row in memory. `shared` and `parity` are those of group_max.
template <typename T, int kWidth, int kGroup>
__device__ void quantize_row(const F8Output& out, int64_t row, const T* numbers,
                             const Packed<T, kWidth> (&kept)[kPacks<kGroup>],
                             float (*shared)[kWarpsOf<kGroup>], int parity) {
    using Pack = Packed<T, kWidth>;
    const int thread = threadIdx.x % kGroup, count = out.width / kWidth;
    const int tail = tail_begin<kGroup, kPacks<kGroup>>(thread, count);
    float largest = 0;
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count) largest = fmaxf(largest, largest_of<kWidth>(kept[p]));
    for (int v = tail; v < count; v += kGroup)
        largest = fmaxf(largest, largest_of<kWidth>(Pack::load(numbers + v * kWidth)));
    const Fp8Scale scale(group_max<kGroup>(largest, shared, parity));
    if (thread == 0) out.scales[row] = scale.scale;
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count)
            out.store<kWidth>(row, (thread + p * kGroup) * kWidth, scale, kept[p]);
    for (int v = tail; v < count; v += kGroup)
        out.store<kWidth>(row, v * kWidth, scale, Pack::load(numbers + v * kWidth));
}

/// rstd[n] = (mean_c x[n, c]^2 + eps)^(-1/2); out[n, c] = gain x[n, c] rstd[n] weight[c].
/// One group per row; its thread t owns columns (t + kGroup j) kWidth to + kWidth. The row is read once.
/// width is a multiple of kWidth; rows are aligned for Packed<T, kWidth>.
template <typename T, int kWidth, int kGroup, bool kQuantizes>
__global__ void __launch_bounds__(kGroupThreads<kGroup>)
    rmsnorm_forward_kernel(HeadRows<T> out, float* rstd, HeadRows<const T> x, const float* weight,
                           int64_t rows, int width, float eps, float gain, F8Output quantized) {
    using Pack = Packed<T, kWidth>;
    __shared__ float shared[2][kWarpsOf<kGroup>];
    const int64_t row =
        static_cast<int64_t>(blockIdx.x) * (kGroupThreads<kGroup> / kGroup) + threadIdx.x / kGroup;
    if (row >= rows) return;
    const int thread = threadIdx.x % kGroup, count = width / kWidth;
    const T* from = x[row];
    T* to = out[row];

    Pack kept[kPacks<kGroup>];
    float squares = 0;
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count) kept[p] = Pack::load(from + (thread + p * kGroup) * kWidth);
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count)
            for (int i = 0; i < kWidth; ++i) squares += kept[p][i] * kept[p][i];
    for (int v = tail_begin<kGroup, kPacks<kGroup>>(thread, count); v < count; v += kGroup) {
        const Pack pack = Pack::load(from + v * kWidth);
        for (int i = 0; i < kWidth; ++i) squares += pack[i] * pack[i];
    }

    const float mean = group_sum<kGroup>(squares, shared, 0) / static_cast<float>(width);
    const float scale = reciprocal_rms(mean, eps);
    if (thread == 0) rstd[row] = scale;
    const float factor = scale * gain;
    const auto write = [&](const Pack& pack, int column) {
        const auto gamma = Packed<float, kWidth>::load(weight + column);
        const Pack normalised = Pack::of([&](int i) { return pack[i] * factor * gamma[i]; });
        normalised.store(to + column);
        return normalised;
    };
#pragma unroll
    for (int p = 0; p < kPacks<kGroup>; ++p)
        if (thread + p * kGroup < count) kept[p] = write(kept[p], (thread + p * kGroup) * kWidth);
    for (int v = tail_begin<kGroup, kPacks<kGroup>>(thread, count); v < count; v += kGroup)
        write(Pack::load(from + v * kWidth), v * kWidth);
    if constexpr (kQuantizes) quantize_row<T, kWidth, kGroup>(quantized, row, to, kept, shared, 1);
}

template <typename T>
struct RmsnormBackwardParams {
    HeadRows<T> dx;
    float* partials;  ///< [blocks, width]: the sum of dy xhat over the rows of each block
    HeadRows<const T> dy, x;
    HeadRows<const T> dresidual;  ///< data may be null, or dx.data
    HeadRows<T> out;              ///< data may be null, or dy.data
    const float* rstd;
    const float* weight;
    int64_t rows;
    int width;
    float gain;
    F8Output quantized_dx;  ///< unused unless kQuantizes
};

/// y_c = w_c xhat_c with xhat = x r, r = (mean x^2 + eps)^(-1/2), so dr/dx_c = -r^3 x_c / C. With g = w dy:
///     dx_c = g_c r + (sum_j g_j x_j) dr/dx_c = (g_c - xhat_c mean_j(xhat_j g_j)) r;  dw_c = sum_n dy xhat.
/// dx = (dresidual added); partials =; out = the output of forward. The gain, 1 above, scales y
/// and so both gradients.
/// Groups stride over the rows by the number of groups in the grid. Each thread accumulates dy xhat of its
/// columns in registers until the end, so a row costs one reduction, without a barrier where a group is a
/// warp. Columns beyond the kept ones (only where a group is a block) accumulate in the block's own row of
/// the partial sums, each by the thread that owns it.
/// width is a multiple of kWidth; rows are aligned for Packed<T, kWidth>; there are no more blocks than rows.
template <typename T, int kWidth, int kGroup, bool kQuantizes>
__global__ void __launch_bounds__(kGroupThreads<kGroup>, kResidentThreads / kGroupThreads<kGroup>)
    rmsnorm_backward_kernel(RmsnormBackwardParams<T> params) {
    using Pack = Packed<T, kWidth>;
    using Floats = Packed<float, kWidth>;
    __shared__ float shared[2][kWarpsOf<kGroup>], shared_for_quantizing[2][kWarpsOf<kGroup>];
    constexpr int kGroups = kGroupThreads<kGroup> / kGroup;
    const int thread = threadIdx.x % kGroup, count = params.width / kWidth;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * kGroups + threadIdx.x / kGroup;
    const bool add = params.dresidual.data != nullptr;
    float* partials = params.partials + static_cast<int64_t>(blockIdx.x) * params.width;
    float dweight[kPacks<kGroup>][kWidth] = {};

    int parity = 0;
    for (int64_t row = first; row < params.rows;
         row += static_cast<int64_t>(gridDim.x) * kGroups, parity ^= 1) {
        const T *x = params.x[row], *dy = params.dy[row], *dresidual = add ? params.dresidual[row] : nullptr;
        const float rstd = params.rstd[row], factor = rstd * params.gain;
        Pack kept_x[kPacks<kGroup>], kept_dy[kPacks<kGroup>], kept_residual[kPacks<kGroup>] = {};
#pragma unroll
        for (int p = 0; p < kPacks<kGroup>; ++p) {
            const int v = thread + p * kGroup;
            if (v < count) {
                kept_x[p] = Pack::load(x + v * kWidth);
                kept_dy[p] = Pack::load(dy + v * kWidth);
                if (add) kept_residual[p] = Pack::load(dresidual + v * kWidth);
            }
        }
        float dot = 0;
#pragma unroll
        for (int p = 0; p < kPacks<kGroup>; ++p) {
            const int v = thread + p * kGroup;
            if (v < count) {
                const Floats weight = Floats::load(params.weight + v * kWidth);
                for (int i = 0; i < kWidth; ++i) {
                    const float product = kept_dy[p][i] * kept_x[p][i];
                    dot += weight[i] * product;
                    dweight[p][i] += product * factor;
                }
            }
        }
        for (int v = tail_begin<kGroup, kPacks<kGroup>>(thread, count); v < count; v += kGroup) {
            const Pack pack_x = Pack::load(x + v * kWidth), pack_dy = Pack::load(dy + v * kWidth);
            const Floats weight = Floats::load(params.weight + v * kWidth);
            const Floats sums = row == first ? Floats{} : Floats::load(partials + v * kWidth);
            for (int i = 0; i < kWidth; ++i) dot += weight[i] * pack_dy[i] * pack_x[i];
            Floats::of([&](int i) {
                return sums[i] + pack_dy[i] * pack_x[i] * factor;
            }).store(partials + v * kWidth);
        }

        const float mean = group_sum<kGroup>(dot, shared, parity) * rstd / static_cast<float>(params.width);
        const auto write = [&](const Pack& pack_x, const Pack& pack_dy, const Pack& residual, int column) {
            const Floats weight = Floats::load(params.weight + column);
            const Pack dx = Pack::of([&](int i) {
                return residual[i] + (weight[i] * pack_dy[i] - pack_x[i] * rstd * mean) * factor;
            });
            dx.store(params.dx[row] + column);
            if (params.out.data)
                Pack::of([&](int i) {
                    return pack_x[i] * factor * weight[i];
                }).store(params.out[row] + column);
            return dx;
        };
#pragma unroll
        for (int p = 0; p < kPacks<kGroup>; ++p) {
            const int v = thread + p * kGroup;
            if (v < count) kept_x[p] = write(kept_x[p], kept_dy[p], kept_residual[p], v * kWidth);
        }
        for (int v = tail_begin<kGroup, kPacks<kGroup>>(thread, count); v < count; v += kGroup)
            write(Pack::load(x + v * kWidth), Pack::load(dy + v * kWidth),
                  add ? Pack::load(dresidual + v * kWidth) : Pack{}, v * kWidth);
        if constexpr (kQuantizes)
            quantize_row<T, kWidth, kGroup>(params.quantized_dx, row, params.dx[row], kept_x,
                                            shared_for_quantizing, parity);
    }
    write_partials<kWidth, kGroup>(partials, dweight, params.width);
}

/// Calls run.template operator()<kQuantizes>(output). The kernel quantises the rows it writes where they are
/// vectors of bf16; elsewhere a second kernel quantises `numbers`, the tensor it wrote.
template <typename T, int kWidth, typename Run>
void visit_quantization(CudaContext& ctx, const Fp8Rows& quantized, const ConstTensor& numbers,
                        const Run& run) {
    if constexpr (std::is_same_v<T, bf16> && kWidth == kVector<bf16>) {
        if (!quantized.empty() && allows_f8_vectors(quantized))
            return run.template operator()<true>(f8_output(quantized));
    }
    run.template operator()<false>(F8Output{});
    if (!quantized.empty()) quantize_rows(ctx, quantized, numbers);
}

}  // namespace

void rmsnorm_forward(CudaContext& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& quantized, float gain) {
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const bool aligned = allows_vectors(out) && allows_vectors(x) && allows_vectors(weight);
    visit_float_type(x.dtype(), [&]<typename T>() {
        visit_row_shape<T, kKept>(width, aligned, [&]<int kWidth, int kGroup>() {
            visit_quantization<T, kWidth>(ctx, quantized, out, [&]<bool kQuantizes>(const F8Output& output) {
                launch(ctx, ceil_div(rows, kGroupThreads<kGroup> / kGroup), kGroupThreads<kGroup>, 0,
                       rmsnorm_forward_kernel<T, kWidth, kGroup, kQuantizes>, head_rows_of<T>(out),
                       rstd.data<float>(), head_rows_of<T>(x), weight.data<float>(), rows, width, eps, gain,
                       output);
            });
        });
    });
}

void rmsnorm_backward(CudaContext& ctx, const RmsnormBackward& p) {
    const int64_t width = p.x.size(-1), rows = p.x.numel() / width;
    const bool aligned = allows_vectors(p.dx) && allows_vectors(p.dy) && allows_vectors(p.x) &&
                         allows_vectors(p.weight) && allows_vectors(p.dresidual) && allows_vectors(p.out);
    Arena::Frame frame(ctx.scratch(), "rmsnorm_backward");
    visit_float_type(p.x.dtype(), [&]<typename T>() {
        visit_row_shape<T, kKept>(width, aligned, [&]<int kWidth, int kGroup>() {
            const int64_t blocks = column_sum_blocks(ctx, rows, kGroupThreads<kGroup>, kGroup);
            float* partials = frame.take(DType::kF32, {blocks, width}).template data<float>();
            visit_quantization<T, kWidth>(
                ctx, p.quantized_dx, p.dx, [&]<bool kQuantizes>(const F8Output& output) {
                    const RmsnormBackwardParams<T> params{.dx = head_rows_of<T>(p.dx),
                                                          .partials = partials,
                                                          .dy = head_rows_of<T>(p.dy),
                                                          .x = head_rows_of<T>(p.x),
                                                          .dresidual = head_rows_of<T>(p.dresidual),
                                                          .out = head_rows_of<T>(p.out),
                                                          .rstd = p.rstd.data<float>(),
                                                          .weight = p.weight.data<float>(),
                                                          .rows = rows,
                                                          .width = static_cast<int>(width),
                                                          .gain = p.gain,
                                                          .quantized_dx = output};
                    launch(ctx, blocks, kGroupThreads<kGroup>, 0,
                           rmsnorm_backward_kernel<T, kWidth, kGroup, kQuantizes>, params);
                });
            sum_partials(ctx, p.dweight, p.dweight_update, partials, blocks, width);
        });
    });
}

int64_t rmsnorm_backward_scratch_bytes(CudaContext& ctx, int64_t rows, int64_t width) {
    return partial_sums_bytes(ctx, rows, width);
}

}  // namespace pastur
