#pragma once
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

/// Rotates x [batch, time, heads, dim] at position t by t theta_i, theta_i = base^(-2 i / dim), in the pairs
/// (i, i + dim / 2); direction -1 rotates back.
template <class S>
std::vector<S> rope(const std::vector<S>& x, int64_t batch, int64_t time, int64_t heads, int64_t dim,
                    double base, double direction = 1.0) {
    std::vector<S> out = zeros<S>(batch * time * heads * dim);
    const int64_t half = dim / 2;
    for (int64_t row = 0; row < batch * time * heads; ++row) {
        const auto t = static_cast<double>(row / heads % time);
        for (int64_t i = 0; i < half; ++i) {
            const double theta = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
            const double c = std::cos(t * theta), s = direction * std::sin(t * theta);
            const S a = at(x, row * dim + i), b = at(x, row * dim + i + half);
            at(out, row * dim + i) = a * c - b * s;
            at(out, row * dim + i + half) = b * c + a * s;
        }
    }
    return out;
}

}  // namespace pastur::ref
