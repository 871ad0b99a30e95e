#pragma once
#include <algorithm>
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

struct AdamwSettings {
    double lr, beta1, beta2, eps, weight_decay, max_norm;
    int64_t step;
};

struct AdamwState {
    std::vector<double> param, m, v;
};

/// One AdamW step, in place. sum_squares is the squared norm of all gradients; grad may be a part of them.
inline void adamw(AdamwState& state, const std::vector<double>& grad, double sum_squares,
                  const AdamwSettings& use) {
    double clip = 1.0;
    if (use.max_norm > 0 && sum_squares > 0) clip = std::min(1.0, use.max_norm / std::sqrt(sum_squares));
    for (size_t i = 0; i < grad.size(); ++i) {
        const double g = grad[i] * clip;
        state.m[i] = use.beta1 * state.m[i] + (1 - use.beta1) * g;
        state.v[i] = use.beta2 * state.v[i] + (1 - use.beta2) * g * g;
        const double m_hat = state.m[i] / (1 - std::pow(use.beta1, use.step));
        const double v_hat = state.v[i] / (1 - std::pow(use.beta2, use.step));
        state.param[i] -= use.lr * (m_hat / (std::sqrt(v_hat) + use.eps) + use.weight_decay * state.param[i]);
    }
}

}  // namespace pastur::ref
