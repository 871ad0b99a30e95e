#include "kernels/swiglu.h"

#include <algorithm>

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/fp8.h"

namespace pastur {

namespace {

/// The largest block; a block works on part of one row.
constexpr int kMaxThreads = 512;

/// Maximum over the block, valid in every thread. A kernel may call it once.
__device__ float largest_of_block(float mine) {
    __shared__ float shared[kMaxThreads / kWarp];
    mine = warp_max(mine);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = mine;
    __syncthreads();
    for (int warp = 0; warp < blockDim.x / kWarp; ++warp) mine = fmaxf(mine, shared[warp]);
    return mine;
}

/// out[n, f] = silu(gate) up, gate = gu[n, f], up = gu[n, F + f]. blockIdx.x is the row; a thread owns kWidth
/// columns. F is a multiple of kWidth, vectors = F / kWidth; rows are aligned for Packed<T, kWidth>. With
/// kKept > 0 the block owns the whole row and quantises it as well; a thread owns kKept times kWidth columns.
template <typename T, int kWidth, int kKept>
__global__ void __launch_bounds__(kMaxThreads)
    swiglu_forward_kernel(T* out, const T* gu, int vectors, F8Output quantized) {
    using Pack = Packed<T, kWidth>;
    constexpr int kCount = std::max(kKept, 1);
    const int64_t row = blockIdx.x, width = int64_t{vectors} * kWidth;
    const int first = blockIdx.y * blockDim.x + threadIdx.x;
    Pack kept[kCount];
    float largest = 0;
#pragma unroll
    for (int p = 0; p < kCount; ++p) {
        const int v = first + p * blockDim.x;
        if (v >= vectors) continue;
        const Pack gate = Pack::load(gu + row * 2 * width + v * kWidth);
        const Pack up = Pack::load(gu + (row * 2 + 1) * width + v * kWidth);
        kept[p] = Pack::of([&](int i) { return gate[i] * sigmoid<T>(gate[i]) * up[i]; });
        kept[p].store(out + row * width + v * kWidth);
        if constexpr (kKept > 0) largest = fmaxf(largest, largest_of<kWidth>(kept[p]));
    }
    if constexpr (kKept > 0) {
        const Fp8Scale scale(largest_of_block(largest));
        if (threadIdx.x == 0) quantized.scales[row] = scale.scale;
#pragma unroll
        for (int p = 0; p < kCount; ++p) {
            const int v = first + p * blockDim.x;
            if (v < vectors) quantized.store<kWidth>(row, v * kWidth, scale, kept[p]);
        }
    }
}

/// silu(g) = g s, s = sigmoid(g), and ds/dg = s (1 - s), so dsilu/dg = s (1 + g (1 - s)).
/// dgate = dout up s (1 + gate (1 - s)), dup = dout silu(gate); dgu =. Unless null, out = the output of
/// forward. Work mapping, preconditions and quantisation (here of dgu) are those of forward. A thread reads
/// its elements before it writes them, so dgu may be gu, and out dout.
template <typename T, int kWidth, int kKept>
__global__ void __launch_bounds__(kMaxThreads)
    swiglu_backward_kernel(T* dgu, T* out, const T* dout, const T* gu, int vectors, F8Output quantized) {
    using Pack = Packed<T, kWidth>;
    constexpr int kCount = std::max(kKept, 1);
    const int64_t row = blockIdx.x, width = int64_t{vectors} * kWidth;
    const int first = blockIdx.y * blockDim.x + threadIdx.x;
    Pack dgate[kCount], dup[kCount];
    float largest = 0;
#pragma unroll
    for (int p = 0; p < kCount; ++p) {
        const int v = first + p * blockDim.x;
        if (v >= vectors) continue;
        const int64_t at_gate = row * 2 * width + v * kWidth, at_up = at_gate + width;
        const Pack gate = Pack::load(gu + at_gate), up = Pack::load(gu + at_up);
        const Pack d = Pack::load(dout + row * width + v * kWidth);
        float s[kWidth];
        for (int i = 0; i < kWidth; ++i) s[i] = sigmoid<T>(gate[i]);
        dgate[p] = Pack::of([&](int i) { return d[i] * up[i] * s[i] * (1.0f + gate[i] * (1.0f - s[i])); });
        dup[p] = Pack::of([&](int i) { return d[i] * gate[i] * s[i]; });
        dgate[p].store(dgu + at_gate);
        dup[p].store(dgu + at_up);
        if (out)
            Pack::of([&](int i) { return gate[i] * s[i] * up[i]; }).store(out + row * width + v * kWidth);
        if constexpr (kKept > 0)
            largest = fmaxf(largest, fmaxf(largest_of<kWidth>(dgate[p]), largest_of<kWidth>(dup[p])));
    }
    if constexpr (kKept > 0) {
        const Fp8Scale scale(largest_of_block(largest));
        if (threadIdx.x == 0) quantized.scales[row] = scale.scale;
#pragma unroll
        for (int p = 0; p < kCount; ++p) {
            const int v = first + p * blockDim.x;
            if (v >= vectors) continue;
            quantized.store<kWidth>(row, v * kWidth, scale, dgate[p]);
            quantized.store<kWidth>(row, width + v * kWidth, scale, dup[p]);
        }
    }
}

/// Calls run.template operator()<kWidth>(grid, block, vectors) with blocks of whole warps that cover a row of
/// F columns with as few idle threads as possible.
template <typename T, typename Run>
void visit_row_blocks(int64_t rows, int64_t width, bool aligned, const Run& run) {
    const auto choose = [&]<int kWidth>() {
        const int64_t vectors = width / kWidth, parts = ceil_div(vectors, kMaxThreads);
        const int64_t threads = ceil_div(ceil_div(vectors, parts), kWarp) * kWarp;
        run.template operator()<kWidth>(dim3(rows, parts), threads, vectors);
    };
    if (aligned && width % kVector<T> == 0)
        choose.template operator()<kVector<T>>();
    else
        choose.template operator()<1>();
}

/// The largest number of bf16 columns that a block keeps in registers while it computes their maximum.
constexpr int64_t kWidestKept = 4 * kMaxThreads * kVector<bf16>;

/// Calls run.template operator()<kWidth, kKept>(grid, block, vectors) with one block per row of bf16.
template <typename Run>
void visit_whole_rows(int64_t rows, int64_t width, const Run& run) {
    const int64_t vectors = width / kVector<bf16>;
    const auto choose = [&]<int kKept>() {
        const int64_t threads = ceil_div(ceil_div(vectors, kKept), kWarp) * kWarp;
        run.template operator()<kVector<bf16>, kKept>(dim3(rows), threads, vectors);
    };
    switch (ceil_div(vectors, kMaxThreads)) {
        case 1:
            return choose.template operator()<1>();
        case 2:
            return choose.template operator()<2>();
        default:
            return choose.template operator()<4>();
    }
}

/// Calls run.template operator()<T, kWidth, kKept>(grid, block, vectors, output) for rows of F = width
/// columns. The kernel writes `written` and quantises it where a block can hold a row; otherwise a second
/// kernel quantises it.
template <typename Run>
void visit_kernel(CudaContext& ctx, const Fp8Rows& quantized, const Tensor& written, int64_t width,
                  bool aligned, const Run& run) {
    const int64_t rows = written.size(0);
    if (!quantized.empty() && allows_f8_vectors(quantized) && written.dtype() == DType::kBF16 && aligned &&
        width % kVector<bf16> == 0 && width <= kWidestKept)
        return visit_whole_rows(rows, width, [&]<int kWidth, int kKept>(dim3 grid, int block, int vectors) {
            run.template operator()<bf16, kWidth, kKept>(grid, block, vectors, f8_output(quantized));
        });
    visit_float_type(written.dtype(), [&]<typename T>() {
        visit_row_blocks<T>(rows, width, aligned, [&]<int kWidth>(dim3 grid, int block, int vectors) {
            run.template operator()<T, kWidth, 0>(grid, block, vectors, F8Output{});
        });
    });
    if (!quantized.empty()) quantize_rows(ctx, quantized, written);
}

}  // namespace

void swiglu_forward(CudaContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& quantized) {
    const bool aligned = allows_vectors(out) && allows_vectors(gu);
    visit_kernel(
        ctx, quantized, out, out.size(1), aligned,
        [&]<typename T, int kWidth, int kKept>(dim3 grid, int block, int vectors, const F8Output& output) {
            launch(ctx, grid, block, 0, swiglu_forward_kernel<T, kWidth, kKept>, device_data<T>(out),
                   device_data<T>(gu), vectors, output);
        });
}

void swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& quantized) {
    const bool aligned =
        allows_vectors(dgu) && allows_vectors(out) && allows_vectors(dout) && allows_vectors(gu);
    visit_kernel(
        ctx, quantized, dgu, dout.size(1), aligned,
        [&]<typename T, int kWidth, int kKept>(dim3 grid, int block, int vectors, const F8Output& output) {
            launch(ctx, grid, block, 0, swiglu_backward_kernel<T, kWidth, kKept>, device_data<T>(dgu),
                   out.empty() ? nullptr : device_data<T>(out), device_data<T>(dout), device_data<T>(gu),
                   vectors, output);
        });
}

}  // namespace pastur
