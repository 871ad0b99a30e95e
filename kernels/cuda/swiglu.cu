#include "kernels/swiglu.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

/// Most threads of a block, which works on a part of one row.
constexpr int kMaxThreads = 512;

/// 1 / (1 + e^-x). For bf16 by the special function unit, whose error (a few ulp of fp32) the rounding hides.
template <typename T>
__device__ float sigmoid(float x) {
    if constexpr (std::is_same_v<T, bf16>)
        return __fdividef(1.0f, 1.0f + exp2_approximate(-1.4426950408889634f * x));
    else
        return 1.0f / (1.0f + expf(-x));
}

/// out[n, f] = silu(gate) up, gate = gu[n, f], up = gu[n, F + f]. blockIdx.x is the row; a thread has kWidth
/// columns. F is a multiple of kWidth, vectors = F / kWidth; rows are aligned for Packed<T, kWidth>.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads) swiglu_forward_kernel(T* out, const T* gu, int vectors) {
    using Pack = Packed<T, kWidth>;
    const int v = blockIdx.y * blockDim.x + threadIdx.x;
    if (v >= vectors) return;
    const int64_t row = blockIdx.x, width = int64_t{vectors} * kWidth;
    const Pack gate = Pack::load(gu + row * 2 * width + v * kWidth);
    const Pack up = Pack::load(gu + (row * 2 + 1) * width + v * kWidth);
    Pack::of([&](int i) {
        return gate[i] * sigmoid<T>(gate[i]) * up[i];
    }).store(out + row * width + v * kWidth);
}

/// silu(g) = g s, s = sigmoid(g), and ds/dg = s (1 - s), so that dsilu/dg = s (1 + g (1 - s)).
/// dgate = dout up s (1 + gate (1 - s)), dup = dout silu(gate); dgu =, and out = as forward unless null.
/// Mapping and preconditions as forward; a thread reads its elements before it writes them, so that dgu may
/// be gu, and out dout.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    swiglu_backward_kernel(T* dgu, T* out, const T* dout, const T* gu, int vectors) {
    using Pack = Packed<T, kWidth>;
    const int v = blockIdx.y * blockDim.x + threadIdx.x;
    if (v >= vectors) return;
    const int64_t row = blockIdx.x, width = int64_t{vectors} * kWidth;
    const int64_t at_gate = row * 2 * width + v * kWidth, at_up = at_gate + width;
    const Pack gate = Pack::load(gu + at_gate), up = Pack::load(gu + at_up);
    const Pack d = Pack::load(dout + row * width + v * kWidth);
    float s[kWidth];
    for (int i = 0; i < kWidth; ++i) s[i] = sigmoid<T>(gate[i]);
    Pack::of([&](int i) {
        return d[i] * up[i] * s[i] * (1.0f + gate[i] * (1.0f - s[i]));
    }).store(dgu + at_gate);
    Pack::of([&](int i) { return d[i] * gate[i] * s[i]; }).store(dgu + at_up);
    if (out) Pack::of([&](int i) { return gate[i] * s[i] * up[i]; }).store(out + row * width + v * kWidth);
}

/// Calls run.template operator()<kWidth>(grid, block, vectors): blocks of a whole number of warps that cover
/// a row of F columns with as few idle threads as possible.
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

}  // namespace

void swiglu_forward(CudaContext& ctx, Tensor out, ConstTensor gu) {
    const bool aligned = allows_vectors(out) && allows_vectors(gu);
    visit_float_type(out.dtype(), [&]<typename T>() {
        visit_row_blocks<T>(out.size(0), out.size(1), aligned,
                            [&]<int kWidth>(dim3 grid, int block, int vectors) {
                                launch(ctx, grid, block, 0, swiglu_forward_kernel<T, kWidth>,
                                       device_data<T>(out), device_data<T>(gu), vectors);
                            });
    });
}

void swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu) {
    const bool aligned =
        allows_vectors(dgu) && allows_vectors(out) && allows_vectors(dout) && allows_vectors(gu);
    visit_float_type(dout.dtype(), [&]<typename T>() {
        visit_row_blocks<T>(dout.size(0), dout.size(1), aligned,
                            [&]<int kWidth>(dim3 grid, int block, int vectors) {
                                launch(ctx, grid, block, 0, swiglu_backward_kernel<T, kWidth>,
                                       device_data<T>(dgu), out.empty() ? nullptr : device_data<T>(out),
                                       device_data<T>(dout), device_data<T>(gu), vectors);
                            });
    });
}

}  // namespace pastur
