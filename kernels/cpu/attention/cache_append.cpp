#include "kernels/attention/cache_append.h"

#include "kernels/cpu/parallel.h"

namespace pastur {

void cache_append(CpuContext& ctx, Tensor cache, ConstTensor x, ConstTensor positions, int64_t stride,
                  bool summed) {
    const int64_t width = x.size(1);
    parallel_for(ctx, x.size(0), width, [&](int64_t b) {
        const int64_t position = positions.data<int32_t>()[b];
        const float* from = x.data<float>() + b * x.stride(0);
        float* to = cache.data<float>() + b * cache.stride(0) + position / stride * cache.stride(1);
        const bool adds = summed && position % stride != 0;
        for (int64_t i = 0; i < width; ++i) to[i] = adds ? to[i] + from[i] : from[i];
    });
}

}  // namespace pastur
