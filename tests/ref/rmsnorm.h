#pragma once
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

/// rstd[n] = (mean_c x[n, c]^2 + eps)^(-1/2); x [rows, width].
template <class S>
std::vector<S> rms_rstd(const std::vector<S>& x, int64_t rows, int64_t width, double eps) {
    std::vector<S> rstd;
    for (int64_t n = 0; n < rows; ++n) {
        S squares(0);
        for (int64_t c = 0; c < width; ++c) squares += at(x, n * width + c) * at(x, n * width + c);
        rstd.push_back(1.0 / std::sqrt(squares / static_cast<double>(width) + eps));
    }
    return rstd;
}

/// out[n, c] = gain x[n, c] rstd[n] weight[c].
template <class S>
std::vector<S> rmsnorm(const std::vector<S>& x, const std::vector<S>& weight, int64_t rows, int64_t width,
                       double eps, double gain = 1) {
    const std::vector<S> rstd = rms_rstd(x, rows, width, eps);
    std::vector<S> out = zeros<S>(rows * width);
    for (int64_t n = 0; n < rows; ++n)
        for (int64_t c = 0; c < width; ++c)
            at(out, n * width + c) = gain * at(x, n * width + c) * at(rstd, n) * at(weight, c);
    return out;
}

}  // namespace pastur::ref
