#include "kernels/swiglu.h"

#include <algorithm>

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/fp8.h"

namespace pastur {

namespace {

/// Most threads of a block, which works on a part of one row.
constexpr int kMaxThreads = 512;

/// The block's maximum, in every thread; called once.
__device__ float largest_of_block(float mine) {
    __shared__ float shared[kMaxThreads / kWarp];
    mine = warp_max(mine);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = mine;
    __syncthreads();
    for (int warp = 0; warp < blockDim.x / kWarp; ++warp) mine = fmaxf(mine, shared[warp]);
    return mine;
}

/// out[n, f] = silu(gate) up, gate = gu[n, f], up = gu[n, F + f]. blockIdx.x is the row; a thread has kWidth
/// columns. F is a multiple of kWidth, vectors = F / kWidth; rows are aligned for Packed<T, kWidth>.
/// kKept > 0: the block has the whole row, a thread so many times kWidth columns, and rounds it too.
template <typename T, int kWidth, int kKept>
__global__ void __launch_bounds__(kMaxThreads)
    swiglu_forward_kernel(T* out, const T* gu, int vectors, F8Output rounded) {
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
        if (threadIdx.x == 0) rounded.scales[row] = scale.scale;
#pragma unroll
        for (int p = 0; p < kCount; ++p) {
            const int v = first + p * blockDim.x;
            if (v < vectors) rounded.store<kWidth>(row, v * kWidth, scale, kept[p]);
        }
    }
}

/// silu(g) = g s, s = sigmoid(g), and ds/dg = s (1 - s), so that dsilu/dg = s (1 + g (1 - s)).
/// dgate = dout up s (1 + gate (1 - s)), dup = dout silu(gate); dgu =, and out = as forward unless null.
/// Mapping, preconditions and rounding (of dgu) as forward; a thread reads its elements before it writes
/// them, so that dgu may be gu, and out dout.
template <typename T, int kWidth, int kKept>
__global__ void __launch_bounds__(kMaxThreads)
    swiglu_backward_kernel(T* dgu, T* out, const T* dout, const T* gu, int vectors, F8Output rounded) {
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
        if (threadIdx.x == 0) rounded.scales[row] = scale.scale;
#pragma unroll
        for (int p = 0; p < kCount; ++p) {
            const int v = first + p * blockDim.x;
            if (v >= vectors) continue;
            rounded.store<kWidth>(row, v * kWidth, scale, dgate[p]);
            rounded.store<kWidth>(row, width + v * kWidth, scale, dup[p]);
        }
    }
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

/// Columns of bf16 that a block keeps in registers until it knows the largest of them.
constexpr int64_t kWidestKept = 4 * kMaxThreads * kVector<bf16>;

/// Calls run.template operator()<kWidth, kKept>(grid, block, vectors): a block for a whole row of bf16.
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

/// Calls run.template operator()<T, kWidth, kKept>(grid, block, vectors, output) for rows of F columns, of
/// which `made` is written: rounded on the way where a block can keep a row of it, else afterwards.
template <typename Run>
void visit_kernel(CudaContext& ctx, const Fp8Rows& rounded, const Tensor& made, int64_t width, bool aligned,
                  const Run& run) {
    const int64_t rows = made.size(0);
    if (!rounded.empty() && allows_f8_vectors(rounded) && made.dtype() == DType::kBF16 && aligned &&
        width % kVector<bf16> == 0 && width <= kWidestKept)
        return visit_whole_rows(rows, width, [&]<int kWidth, int kKept>(dim3 grid, int block, int vectors) {
            run.template operator()<bf16, kWidth, kKept>(grid, block, vectors, f8_output(rounded));
        });
    visit_float_type(made.dtype(), [&]<typename T>() {
        visit_row_blocks<T>(rows, width, aligned, [&]<int kWidth>(dim3 grid, int block, int vectors) {
            run.template operator()<T, kWidth, 0>(grid, block, vectors, F8Output{});
        });
    });
    if (!rounded.empty()) quantize_rows(ctx, rounded, made);
}

}  // namespace

void swiglu_forward(CudaContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& rounded) {
    const bool aligned = allows_vectors(out) && allows_vectors(gu);
    visit_kernel(
        ctx, rounded, out, out.size(1), aligned,
        [&]<typename T, int kWidth, int kKept>(dim3 grid, int block, int vectors, const F8Output& output) {
            launch(ctx, grid, block, 0, swiglu_forward_kernel<T, kWidth, kKept>, device_data<T>(out),
                   device_data<T>(gu), vectors, output);
        });
}

void swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& rounded) {
    const bool aligned =
        allows_vectors(dgu) && allows_vectors(out) && allows_vectors(dout) && allows_vectors(gu);
    visit_kernel(
        ctx, rounded, dgu, dout.size(1), aligned,
        [&]<typename T, int kWidth, int kKept>(dim3 grid, int block, int vectors, const F8Output& output) {
            launch(ctx, grid, block, 0, swiglu_backward_kernel<T, kWidth, kKept>, device_data<T>(dgu),
                   out.empty() ? nullptr : device_data<T>(out), device_data<T>(dout), device_data<T>(gu),
                   vectors, output);
        });
}

}  // namespace pastur
