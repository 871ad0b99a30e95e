#pragma once
// The tail exponent of a spectrum.
#include <span>

namespace pastur {

/// The density p(x) = ((alpha - 1) / xmin) (x / xmin)^(-alpha) for x >= xmin.
struct PowerLawFit {
    double alpha;
    double xmin;
    double distance;  ///< Kolmogorov-Smirnov distance D between the fit and the values from xmin up
    int count;        ///< length of the tail: how many values lie from xmin up
    double error;     ///< standard error of alpha, (alpha - 1) / sqrt(count)
};

/// The fit of Clauset, Shalizi & Newman (SIAM Review 51, 2009). For each value as xmin, alpha = 1 + n / sum
/// ln(x_i / xmin) is the maximum-likelihood estimate over the n values from xmin up. The result is the xmin
/// whose fit has the least distance
///     D = max_i |1 - (x_i / xmin)^(1 - alpha) - i / n|,   i = 0 ... n - 1 in ascending order,
/// as the authors' code, Python's powerlaw and WeightWatcher compute it. `descending`: positive values, of
/// which the largest is never xmin. Returns NaN and a count of 0 for fewer than two different values.
PowerLawFit fit_power_law(std::span<const double> descending);

}  // namespace pastur
