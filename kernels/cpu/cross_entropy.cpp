#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace pastur {

void cross_entropy_forward(CpuContext& ctx, Tensor losses, ConstTensor logits, ConstTensor targets) {
    const int64_t vocab = logits.size(1);
    parallel_for(ctx, logits.size(0), 20 * vocab, [&](int64_t n) {
        const float* row = logits.data<float>() + n * vocab;
        const int32_t target = targets.data<int32_t>()[n];
        float& loss = losses.data<float>()[n];
        loss = 0;
        if (target < 0) return;
        const Softmax s = softmax_of<false>(row, vocab, nullptr);
        loss = std::log(s.sum) - (row[target] - s.largest);
    });
}

/// d(log sum exp x - x_target)/dx_v = softmax(x)_v - [v = target]; an ignored row has none. logits =.
void cross_entropy_forward_backward(CpuContext& ctx, Tensor losses, Tensor logits, ConstTensor targets,
                                    float scale) {
    const int64_t vocab = logits.size(1);
    parallel_for(ctx, logits.size(0), 20 * vocab, [&](int64_t n) {
        float* row = logits.data<float>() + n * vocab;
        const int32_t target = targets.data<int32_t>()[n];
        if (target < 0) {
            losses.data<float>()[n] = 0;
            std::fill_n(row, vocab, 0.0f);
            return;
        }
        const float x_target = row[target];
        const Softmax s = softmax_of<true>(row, vocab, row);
        losses.data<float>()[n] = std::log(s.sum) - (x_target - s.largest);
        const float factor = scale / s.sum;
        for (int64_t v = 0; v < vocab; ++v) row[v] *= factor;
        row[target] -= scale;
    });
}

}  // namespace pastur
