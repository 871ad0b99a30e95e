#pragma once
#include "tests/ref/vector.h"

namespace pastur::ref {

/// y [rows, heads, out] of x [rows, heads, in]: y = W_h x with w [heads, out, in], or W_h^T x with w [heads, in, out].
template <class S>
std::vector<S> head_linear(const std::vector<S>& x, const std::vector<S>& w, int64_t rows, int64_t heads,
                           int64_t in, int64_t out, bool transposed) {
    std::vector<S> y = zeros<S>(rows * heads * out);
    for (int64_t n = 0; n < rows; ++n)
        for (int64_t h = 0; h < heads; ++h)
            for (int64_t o = 0; o < out; ++o)
                for (int64_t i = 0; i < in; ++i)
                    at(y, (n * heads + h) * out + o) +=
                        at(x, (n * heads + h) * in + i) *
                        at(w, transposed ? (h * in + i) * out + o : (h * out + o) * in + i);
    return y;
}

}  // namespace pastur::ref
