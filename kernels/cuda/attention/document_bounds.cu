#include "kernels/attention/document_bounds.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kThreads = 512;

/// The largest value of the threads up to this one. `total` becomes that of all threads of the CTA.
__device__ int running_max(int value, int& total) {
    __shared__ int warps[kThreads / kWarp];
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
        const int before = __shfl_up_sync(kAllLanes, value, step);
        if (lane >= step) value = max(value, before);
    }
    if (lane == kWarp - 1) warps[warp] = value;
    __syncthreads();
    total = warps[0];
    for (int w = 0; w < kThreads / kWarp; ++w) {
        if (w < warp) value = max(value, warps[w]);
        total = max(total, warps[w]);
    }
    __syncthreads();  // before the next call overwrites the maxima
    return value;
}

/// first_key[t] = the largest u <= t such that token u - 1 is a separator, or 0; query_end[t] = the least u > t such that
/// token u - 1 is a separator, or T. One CTA per sequence, kThreads tokens at a time: upwards for first_key, downwards for
/// query_end, whose least u is the largest -u.
__global__ void __launch_bounds__(kThreads)
    find_documents_kernel(int* first_key, int* query_end, const int* tokens, int separator, int time) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * time;
    first_key += row;
    query_end += row;
    tokens += row;
    for (int base = 0, before = 0, total = 0; base < time; base += kThreads, before = max(before, total)) {
        const int t = base + static_cast<int>(threadIdx.x);
        const bool begins = t > 0 && t < time && tokens[t - 1] == separator;
        const int largest = max(before, running_max(begins ? t : 0, total));
        if (t < time) first_key[t] = largest;
    }
    for (int base = 0, before = -time, total = 0; base < time;
         base += kThreads, before = max(before, total)) {
        const int t = time - 1 - base - static_cast<int>(threadIdx.x);
        const bool ends = t >= 0 && tokens[t] == separator;
        const int largest = max(before, running_max(ends ? -(t + 1) : -time, total));
        if (t >= 0) query_end[t] = -largest;
    }
}

}  // namespace

void find_documents(CudaContext& ctx, Tensor first_key, Tensor query_end, ConstTensor tokens,
                    int32_t separator) {
    launch(ctx, static_cast<unsigned>(first_key.size(0)), kThreads, 0, find_documents_kernel,
           first_key.data<int32_t>(), query_end.data<int32_t>(), tokens.data<int32_t>(), separator,
           static_cast<int>(first_key.size(1)));
}

}  // namespace pastur
