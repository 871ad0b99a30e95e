#include "kernels/attention/cache_append.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kThreads = 256;

template <typename T>
struct AppendParams {
    T* cache;
    const T* x;
    const int32_t* positions;
    int64_t cache_batch, cache_slot, x_row;  ///< strides in elements
    int width, stride;
    bool summed;
};

/// A thread owns one number of the row of a sequence, blockIdx.y.
template <typename T>
__global__ void __launch_bounds__(kThreads) cache_append_kernel(const AppendParams<T> p) {
    const int i = blockIdx.x * kThreads + threadIdx.x;
    if (i >= p.width) return;
    const int64_t b = blockIdx.y;
    const int position = p.positions[b];
    T* to = p.cache + b * p.cache_batch + position / p.stride * p.cache_slot + i;
    const float x = to_float(p.x[b * p.x_row + i]);
    const bool adds = p.summed && position % p.stride != 0;
    *to = from_float<T>(adds ? to_float(*to) + x : x);
}

}  // namespace

void cache_append(CudaContext& ctx, Tensor cache, ConstTensor x, ConstTensor positions, int64_t stride,
                  bool summed) {
    PASTUR_CHECK(x.size(0) < 65536, "cache_append: {} sequences, expected fewer than 65536", x.size(0));
    visit_float_type(x.dtype(), [&]<typename T>() {
        const AppendParams<T> p{device_data<T>(cache),
                                device_data<T>(x),
                                positions.data<int32_t>(),
                                cache.stride(0),
                                cache.stride(1),
                                x.stride(0),
                                static_cast<int>(x.size(1)),
                                static_cast<int>(stride),
                                summed};
        const dim3 grid(static_cast<unsigned>(ceil_div(x.size(1), kThreads)),
                        static_cast<unsigned>(x.size(0)));
        launch(ctx, grid, kThreads, 0, cache_append_kernel<T>, p);
    });
}

}  // namespace pastur
