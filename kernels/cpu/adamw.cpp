#include "kernels/optimizer/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/bf16_rounder.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

/// The formula of one element; m and v are updated.
struct Formula {
    float clip, beta1, beta2, lr, eps, decay, correction1, correction2;
    explicit Formula(const AdamwParams& params, double sum_squares)
        : clip(clip_factor(sum_squares, params.max_norm)),
          beta1(params.beta1),
          beta2(params.beta2),
          lr(params.lr),
          eps(params.eps),
          decay(params.weight_decay),
          correction1(correction(params.beta1, params.step)),
          correction2(correction(params.beta2, params.step)) {}
    static float correction(float beta, int64_t step) {
        return static_cast<float>(1.0 /
                                  (1.0 - std::pow(static_cast<double>(beta), static_cast<double>(step))));
    }
    void update(float& param, float& m, float& v, float grad) const {
        const float g = grad * clip;
        m = beta1 * m + (1.0f - beta1) * g;
        v = beta2 * v + (1.0f - beta2) * g * g;
        const float direction = m * correction1 / (std::sqrt(v * correction2) + eps);
        param -= lr * (direction + decay * param);
    }
};

/// Elements [begin, end) where everything is fp32.
void update_floats(const Formula& formula, float* p, float* m, float* v, const float* grad, Bf16* compute,
                   int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) formula.update(p[i], m[i], v[i], grad[i]);
    if (compute)
        for (int64_t i = begin; i < end; ++i) compute[i] = to_bf16(p[i]);
}

/// Elements [begin, end) where a number is stored in bf16.
template <typename Moment, typename Weight, typename Compute>
void update_rounded(const Formula& formula, Weight* p, Moment* m, Moment* v, const float* grad,
                    Compute* compute, const AdamwParams& params, int64_t begin, int64_t end) {
    const auto rounder = [&](Bf16Rounding rounding, RoundedNumber number) {
        return Bf16Rounder(rounding, params.rounding.seed, params.step, number);
    };
    Bf16Rounder first = rounder(params.rounding.moments, RoundedNumber::kFirstMoment),
                second = rounder(params.rounding.moments, RoundedNumber::kSecondMoment),
                weight = rounder(params.rounding.param, RoundedNumber::kParam);
    for (int64_t i = begin; i < end; ++i) {
        float new_p = as_float(p[i]), new_m = as_float(m[i]), new_v = as_float(v[i]);
        formula.update(new_p, new_m, new_v, grad[i]);
        const int64_t element = params.rounding.first_element + i;
        first.store(m[i], new_m, element);
        second.store(v[i], new_v, element);
        weight.store(p[i], new_p, element);
        if (!compute) continue;
        if constexpr (std::is_same_v<Compute, float>)
            compute[i] = as_float(p[i]);
        else
            compute[i] = to_bf16(p[i]);
    }
}

}  // namespace

void adamw_step(CpuContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params) {
    constexpr int64_t kPiece = 1 << 14;
    const double* sum = sums.data<double>();
    if (!adamw_accepts(sum, sums.numel(), params.max_norm)) return;
    const Formula formula(params, sum[0]);
    const float* gradient = grad.data<float>();
    const auto run = [&]<typename Moment, typename Weight>() {
        using Compute = std::conditional_t<std::is_same_v<Weight, float>, Bf16, float>;
        auto* const p = param.data<Weight>();
        auto *const first = m.data<Moment>(), *const second = v.data<Moment>();
        auto* const copy = compute.empty() ? nullptr : compute.data<Compute>();
        parallel_for_pieces(ctx, param.numel(), kPiece, 10, [&](int64_t begin, int64_t end) {
            if constexpr (std::is_same_v<Moment, float> && std::is_same_v<Weight, float>)
                update_floats(formula, p, first, second, gradient, copy, begin, end);
            else
                update_rounded(formula, p, first, second, gradient, copy, params, begin, end);
        });
    };
    if (m.dtype() == DType::kF32)
        param.dtype() == DType::kF32 ? run.operator()<float, float>() : run.operator()<float, Bf16>();
    else
        param.dtype() == DType::kF32 ? run.operator()<Bf16, float>() : run.operator()<Bf16, Bf16>();
}

}  // namespace pastur
