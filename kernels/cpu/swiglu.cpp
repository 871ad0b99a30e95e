#include "kernels/swiglu.h"

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/fp8.h"

namespace pastur {
namespace {

/// Writes one row of dgu, and of out if kOut. Each column is read before it is written, so dgu may be gu, and
/// out dout.
template <bool kOut>
void backward_row(float* dgate, float* out, const float* dout, const float* gate, int64_t width) {
    const float* up = gate + width;
    float* dup = dgate + width;
#pragma omp simd
    for (int64_t f = 0; f < width; ++f) {
        const float x = gate[f], y = up[f], s = sigmoid(x), d = dout[f];
        dgate[f] = d * y * s * (1.0f + x * (1.0f - s));
        dup[f] = d * x * s;
        if constexpr (kOut) out[f] = x * s * y;
    }
}

}  // namespace

void swiglu_forward(CpuContext& ctx, Tensor out, ConstTensor gu, const Fp8Rows& quantized) {
    const int64_t width = out.size(1);
    parallel_for(ctx, out.size(0), 20 * width, [&](int64_t n) {
        const float* gate = gu.data<float>() + n * 2 * width;
        const float* up = gate + width;
        float* to = out.data<float>() + n * width;
#pragma omp simd
        for (int64_t f = 0; f < width; ++f) to[f] = gate[f] * sigmoid(gate[f]) * up[f];
    });
    if (!quantized.empty()) quantize_rows(ctx, quantized, out);
}

/// silu(x) = x s(x), s' = s (1 - s): silu' = s (1 + x (1 - s)). dgu =, out =.
void swiglu_backward(CpuContext& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& quantized) {
    const int64_t width = dout.size(1);
    parallel_for(ctx, dout.size(0), 30 * width, [&](int64_t n) {
        const float* gate = gu.data<float>() + n * 2 * width;
        const float* d = dout.data<float>() + n * width;
        float* dgate = dgu.data<float>() + n * 2 * width;
        if (out.empty())
            backward_row<false>(dgate, nullptr, d, gate, width);
        else
            backward_row<true>(dgate, out.data<float>() + n * width, d, gate, width);
    });
    if (!quantized.empty()) quantize_rows(ctx, quantized, dgu);
}

}  // namespace pastur
