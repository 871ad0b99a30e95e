#include "kernels/attention/head_linear.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kRows = 8;  ///< of x for which a thread reads the matrix once
constexpr int kForwardThreads = 128, kTransposedThreads = 64;

/// [N, H, width] or [H, rows, width]; strides in elements.
template <typename T>
struct Heads {
    T* data;
    int64_t outer, inner;
    __device__ T* at(int64_t i, int64_t j) const { return data + i * outer + j * inner; }
};

template <typename T>
struct HeadLinearParams {
    Heads<T> y;
    Heads<const T> x, w;
    int rows, in, out;
};

/// y[n, h, o] = sum_i w[h, o, i] x[n, h, i]. One warp per (h, o, kRows of n): lanes walk over i in vectors. Rows beyond
/// the last one repeat it and are not written.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kForwardThreads) head_linear_forward_kernel(const HeadLinearParams<T> p) {
    using Pack = Packed<T, kWidth>;
    const int lane = threadIdx.x % kWarp, o = blockIdx.x * (kForwardThreads / kWarp) + threadIdx.x / kWarp;
    const int h = blockIdx.y, first = blockIdx.z * kRows;
    if (o >= p.out) return;
    const T* weights = p.w.at(h, o);
    float sum[kRows] = {};
    for (int c = lane * kWidth; c < p.in; c += kWarp * kWidth) {
        const Pack w = Pack::load(weights + c);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const Pack x = Pack::load(p.x.at(min(first + r, p.rows - 1), h) + c);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) sum[r] += w[i] * x[i];
        }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        const float total = warp_sum(sum[r]);
        if (lane == 0 && first + r < p.rows) p.y.at(first + r, h)[o] = from_float<T>(total);
    }
}

/// y[n, h, o] = sum_i w[h, i, o] x[n, h, i]. A thread owns kWidth columns o of kRows rows n and walks over i.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kTransposedThreads)
    head_linear_transposed_kernel(const HeadLinearParams<T> p) {
    using Pack = Packed<T, kWidth>;
    const int column = (blockIdx.x * kTransposedThreads + threadIdx.x) * kWidth;
    const int h = blockIdx.y, first = blockIdx.z * kRows;
    if (column >= p.out) return;
    float sum[kRows][kWidth] = {};
#pragma unroll 4
    for (int i = 0; i < p.in; ++i) {
        const Pack w = Pack::load(p.w.at(h, i) + column);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const float x = to_float(p.x.at(min(first + r, p.rows - 1), h)[i]);
#pragma unroll
            for (int c = 0; c < kWidth; ++c) sum[r][c] += w[c] * x;
        }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
        if (first + r >= p.rows) break;
        Pack::of([&](int c) { return sum[r][c]; }).store(p.y.at(first + r, h) + column);
    }
}

template <typename T, int kWidth>
void run(CudaContext& ctx, const HeadLinearParams<T>& p, int64_t heads, HeadMap map) {
    const auto rows = static_cast<unsigned>(ceil_div(p.rows, kRows));
    const int64_t columns = map == HeadMap::kForward ? kForwardThreads / kWarp : kTransposedThreads * kWidth;
    const dim3 grid(static_cast<unsigned>(ceil_div(p.out, columns)), static_cast<unsigned>(heads), rows);
    if (map == HeadMap::kForward)
        launch(ctx, grid, kForwardThreads, 0, head_linear_forward_kernel<T, kWidth>, p);
    else
        launch(ctx, grid, kTransposedThreads, 0, head_linear_transposed_kernel<T, kWidth>, p);
}

}  // namespace

void head_linear(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w, HeadMap map) {
    PASTUR_CHECK(x.size(0) <= int64_t{65535} * kRows && x.size(1) < 65536, "head_linear: x {}", describe(x));
    visit_float_type(x.dtype(), [&]<typename T>() {
        const HeadLinearParams<T> p{{device_data<T>(y), y.stride(0), y.stride(1)},
                                    {device_data<T>(x), x.stride(0), x.stride(1)},
                                    {device_data<T>(w), w.stride(0), w.stride(1)},
                                    static_cast<int>(x.size(0)),
                                    static_cast<int>(x.size(2)),
                                    static_cast<int>(y.size(2))};
        // What is read and written in vectors: x and w along i, or w and y along o.
        const ConstTensor other = map == HeadMap::kForward ? x : ConstTensor(y);
        if (allows_vectors(w) && allows_vectors(other) && w.size(2) % kVector<T> == 0)
            run<T, kVector<T>>(ctx, p, x.size(1), map);
        else
            run<T, 1>(ctx, p, x.size(1), map);
    });
}

}  // namespace pastur
