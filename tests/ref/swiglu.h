#pragma once
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

/// out[n, f] = silu(gu[n, f]) gu[n, width + f]; gu [rows, 2 width].
template <class S>
std::vector<S> swiglu(const std::vector<S>& gu, int64_t rows, int64_t width) {
    std::vector<S> out = zeros<S>(rows * width);
    for (int64_t n = 0; n < rows; ++n) {
        for (int64_t f = 0; f < width; ++f) {
            const S gate = at(gu, n * 2 * width + f), up = at(gu, n * 2 * width + width + f);
            at(out, n * width + f) = gate / (1.0 + std::exp(-gate)) * up;
        }
    }
    return out;
}

}  // namespace pastur::ref
