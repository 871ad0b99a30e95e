#pragma once
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

/// mean[n] = mean_c x[n, c]; rstd[n] = (mean_c (x[n, c] - mean[n])^2 + eps)^(-1/2); x [rows, width].
template <class S>
struct RowMoments {
    std::vector<S> mean, rstd;
};
template <class S>
RowMoments<S> row_moments(const std::vector<S>& x, int64_t rows, int64_t width, double eps) {
    RowMoments<S> moments;
    for (int64_t n = 0; n < rows; ++n) {
        S mean(0), variance(0);
        for (int64_t c = 0; c < width; ++c) mean += at(x, n * width + c) / static_cast<double>(width);
        for (int64_t c = 0; c < width; ++c) {
            const S centred = at(x, n * width + c) - mean;
            variance += centred * centred / static_cast<double>(width);
        }
        moments.mean.push_back(mean);
        moments.rstd.push_back(1.0 / std::sqrt(variance + eps));
    }
    return moments;
}

/// out[n, c] = (x[n, c] - mean[n]) rstd[n] weight[c] + bias[c].
template <class S>
std::vector<S> layer_norm(const std::vector<S>& x, const std::vector<S>& weight, const std::vector<S>& bias,
                          int64_t rows, int64_t width, double eps) {
    const RowMoments<S> moments = row_moments(x, rows, width, eps);
    std::vector<S> out = zeros<S>(rows * width);
    for (int64_t n = 0; n < rows; ++n)
        for (int64_t c = 0; c < width; ++c)
            at(out, n * width + c) =
                (at(x, n * width + c) - at(moments.mean, n)) * at(moments.rstd, n) * at(weight, c) +
                at(bias, c);
    return out;
}

}  // namespace pastur::ref
