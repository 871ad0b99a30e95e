#include "kernels/swiglu.h"

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/fp8.h"

namespace pastur {

void swiglu_forward(CpuContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& rounded) {
    const int64_t width = out.size(1);
    parallel_for(ctx, out.size(0), 20 * width, [&](int64_t n) {
        const float* gate = gu.data<float>() + n * 2 * width;
        const float* up = gate + width;
        float* to = out.data<float>() + n * width;
        for (int64_t f = 0; f < width; ++f) to[f] = gate[f] * sigmoid(gate[f]) * up[f];
    });
    if (!rounded.empty()) quantize_rows(ctx, rounded, out);
}

/// silu(x) = x s(x), s' = s (1 - s): silu' = s (1 + x (1 - s)). dgu =, out =.
void swiglu_backward(CpuContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& rounded) {
    const int64_t width = dout.size(1);
    parallel_for(ctx, dout.size(0), 30 * width, [&](int64_t n) {
        const float* row = gu.data<float>() + n * 2 * width;
        const float* d = dout.data<float>() + n * width;
        float* to = dgu.data<float>() + n * 2 * width;
        float* again = out.empty() ? nullptr : out.data<float>() + n * width;
        for (int64_t f = 0; f < width; ++f) {
            const float gate = row[f], up = row[width + f], s = sigmoid(gate), df = d[f];
            to[f] = df * up * s * (1.0f + gate * (1.0f - s));
            to[width + f] = df * gate * s;
            if (again) again[f] = gate * s * up;
        }
    });
    if (!rounded.empty()) quantize_rows(ctx, rounded, dgu);
}

}  // namespace pastur
