#include "kernels/attention/head_linear.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace pastur {

void head_linear(CpuContext& ctx, Tensor y, ConstTensor x, ConstTensor w, HeadMap map) {
    const int64_t heads = x.size(1), in = x.size(2), out = y.size(2);
    parallel_for(ctx, x.size(0) * heads, in * out, [&](int64_t i) {
        const int64_t n = i / heads, h = i % heads;
        const float* from = x.data<float>() + n * x.stride(0) + h * x.stride(1);
        const float* weight = w.data<float>() + h * w.stride(0);
        float* to = y.data<float>() + n * y.stride(0) + h * y.stride(1);
        if (map == HeadMap::kForward) {
            for (int64_t o = 0; o < out; ++o) {
                const float* row = weight + o * w.stride(1);
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t c = 0; c < in; ++c) sum += row[c] * from[c];
                to[o] = sum;
            }
            return;
        }
        std::fill_n(to, out, 0.0f);
        for (int64_t c = 0; c < in; ++c) {
            const float* row = weight + c * w.stride(1);
            for (int64_t o = 0; o < out; ++o) to[o] += from[c] * row[o];
        }
    });
}

}  // namespace pastur
