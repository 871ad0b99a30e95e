#pragma once
#include "tests/ref/vector.h"

namespace pastur::ref {

/// y[n, o] = sum_i x[n, i] w[o, i]; x [rows, in], w [out, in].
template <class S>
std::vector<S> linear(const std::vector<S>& x, const std::vector<S>& w, int64_t rows, int64_t in,
                      int64_t out) {
    std::vector<S> y = zeros<S>(rows * out);
    for (int64_t n = 0; n < rows; ++n) {
        for (int64_t o = 0; o < out; ++o) {
            S sum(0);
            for (int64_t i = 0; i < in; ++i) sum += at(x, n * in + i) * at(w, o * in + i);
            at(y, n * out + o) = sum;
        }
    }
    return y;
}

}  // namespace pastur::ref
