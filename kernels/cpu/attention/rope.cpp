#include "kernels/attention/rope.h"

#include "kernels/cpu/parallel.h"

namespace pastur {

void rope(CpuContext& ctx, Tensor out, ConstTensor in, ConstTensor table, Rotation rotation) {
    const int64_t time = in.size(1), heads = in.size(2), half = in.size(3) / 2;
    const float sign = rotation == Rotation::kForward ? 1.0f : -1.0f;
    const float* from = in.data<float>();
    float* to = out.data<float>();
    parallel_for(ctx, in.size(0) * time, 3 * heads * in.size(3), [&](int64_t row) {
        const int64_t b = row / time, t = row % time;
        const float* cosines = table.data<float>() + t * table.stride(0);
        const float* sines = cosines + half;
        for (int64_t h = 0; h < heads; ++h) {
            const float* x = from + b * in.stride(0) + t * in.stride(1) + h * in.stride(2);
            float* y = to + b * out.stride(0) + t * out.stride(1) + h * out.stride(2);
#pragma omp simd  // out may be in: each pair is read before it is written
            for (int64_t i = 0; i < half; ++i) {
                const float first = x[i], second = x[i + half], sine = sign * sines[i];
                y[i] = first * cosines[i] - second * sine;
                y[i + half] = second * cosines[i] + first * sine;
            }
        }
    });
}

}  // namespace pastur
