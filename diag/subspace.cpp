#include "diag/subspace.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace pastur {

double overlap(const Subspace& u, const Subspace& v) {
    if (u.count == 0 || v.count == 0 || u.width != v.width) return std::numeric_limits<double>::quiet_NaN();
    double squares = 0;
    for (int64_t i = 0; i < u.count; ++i)
        for (int64_t j = 0; j < v.count; ++j) {
            const double* const row = u.vectors.data() + i * u.width;
            const double cosine = std::inner_product(row, row + u.width, v.vectors.data() + j * v.width, 0.0);
            squares += cosine * cosine;
        }
    return squares / static_cast<double>(std::max(u.count, v.count));
}

}  // namespace pastur
