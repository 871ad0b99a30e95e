#include "kernels/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"

namespace pastur {

void adamw_step(CpuContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params) {
    constexpr int64_t kPiece = 1 << 14;
    const double* sum = sums.data<double>();
    if (!adamw_accepts(sum, sums.numel(), params.max_norm)) return;
    const float clip = clip_factor(sum[0], params.max_norm);
    const auto step = static_cast<double>(params.step);
    const auto correction1 =
        static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(params.beta1), step)));
    const auto correction2 =
        static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(params.beta2), step)));
    const float beta1 = params.beta1, beta2 = params.beta2, lr = params.lr, eps = params.eps;
    const float decay = params.weight_decay;
    float *p = param.data<float>(), *first = m.data<float>(), *second = v.data<float>();
    const float* gradient = grad.data<float>();
    Bf16* rounded = compute.empty() ? nullptr : compute.data<Bf16>();
    parallel_for_pieces(ctx, param.numel(), kPiece, 10, [&](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) {
            const float g = gradient[i] * clip;
            first[i] = beta1 * first[i] + (1.0f - beta1) * g;
            second[i] = beta2 * second[i] + (1.0f - beta2) * g * g;
            const float update = first[i] * correction1 / (std::sqrt(second[i] * correction2) + eps);
            p[i] -= lr * (update + decay * p[i]);
        }
        if (rounded)
            for (int64_t i = begin; i < end; ++i) rounded[i] = to_bf16(p[i]);
    });
}

}  // namespace pastur
