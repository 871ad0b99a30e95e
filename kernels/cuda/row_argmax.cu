#include "kernels/row_argmax.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kThreads = 256;

/// One CTA per row. A thread walks over every kThreads-th column in ascending order; then pairs of threads are combined,
/// where equal numbers leave the lower column.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    row_argmax_kernel(int32_t* ids, const T* x, int64_t stride, int columns) {
    __shared__ float values[kThreads];
    __shared__ int places[kThreads], unusable[kThreads];
    const int64_t n = blockIdx.x;
    const int thread = threadIdx.x;
    float best = -INFINITY;
    int place = columns, bad = 0;
    for (int i = thread; i < columns; i += kThreads) {
        const float value = to_float(x[n * stride + i]);
        bad |= !(value < INFINITY);
        if (value > best) best = value, place = i;
    }
    values[thread] = best, places[thread] = place, unusable[thread] = bad;
    __syncthreads();
    for (int half = kThreads / 2; half > 0; half /= 2) {
        if (thread < half) {
            const int other = thread + half;
            unusable[thread] |= unusable[other];
            if (values[other] > values[thread] ||
                (values[other] == values[thread] && places[other] < places[thread])) {
                values[thread] = values[other];
                places[thread] = places[other];
            }
        }
        __syncthreads();
    }
    if (thread == 0) ids[n] = unusable[0] || places[0] == columns ? -1 : places[0];
}

}  // namespace

void row_argmax(CudaContext& ctx, Tensor ids, ConstTensor x) {
    if (x.size(0) == 0) return;
    visit_float_type(x.dtype(), [&]<typename T>() {
        launch(ctx, static_cast<unsigned>(x.size(0)), kThreads, 0, row_argmax_kernel<T>, ids.data<int32_t>(),
               device_data<T>(x), x.stride(0), static_cast<int>(x.size(1)));
    });
}

}  // namespace pastur
