#pragma once
// The tail exponent of a spectrum.
#include <span>

namespace pastur {

/// p(x) = ((alpha - 1) / xmin) (x / xmin)^(-alpha) for x >= xmin.
struct PowerLawFit {
    double alpha;
    double xmin;
    double distance;  ///< Kolmogorov-Smirnov distance D between the fit and the values from xmin up
    int count;        ///< length of the tail: how many values lie from xmin up
    double error;     ///< standard error of alpha, (alpha - 1) / sqrt(count)
};

/// Clauset, Shalizi & Newman (SIAM Review 51, 2009): for each value as xmin, alpha = 1 + n / sum ln(x_i /
/// xmin) by maximum likelihood over the n values from xmin up; that xmin is kept whose fit is nearest by
///     max_i |1 - (x_i / xmin)^(1 - alpha) - i / n|,   i = 0 ... n - 1 in ascending order,
/// as their own code, Python's powerlaw and WeightWatcher take it. `descending`: positive values; the largest
/// is no candidate. NaN (count 0) when fewer than two different values are given.
PowerLawFit fit_power_law(std::span<const double> descending);

}  // namespace pastur
