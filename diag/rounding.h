#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

namespace pastur {

/// Eigenvalues up to this are zero to rounding, for a spectrum of n with this largest one: the rounding
/// errors of a solver add up like sqrt(n). The smallest eigenvalue of a random square matrix lies above it.
inline double rounding_level(int64_t n, double largest) {
    return 4 * std::sqrt(static_cast<double>(n)) * std::numeric_limits<double>::epsilon() * largest;
}

}  // namespace pastur
