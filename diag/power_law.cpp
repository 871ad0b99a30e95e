#include "diag/power_law.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace pastur {
namespace {

/// max_i |1 - (x_i / xmin)^(1 - alpha) - i / n| of a tail. logs: the logarithms of the x_i, descending;
/// the last one is that of xmin. Stops as soon as the maximum is not below `bound`.
double distance(std::span<const double> logs, double alpha, double bound) {
    const int n = static_cast<int>(logs.size());
    const double log_xmin = logs.back();
    double largest = 0;
    // Every stride-th value comes first: most candidates are bad fits, and these show there.
    for (const int stride : {std::max(n / 16, 2), 1})
        for (int i = 0; i < n; i += stride) {
            const double below = static_cast<double>(n - 1 - i) / n;
            const double model = -std::expm1((1 - alpha) * (logs[static_cast<size_t>(i)] - log_xmin));
            largest = std::max(largest, std::abs(model - below));
            if (largest >= bound) return largest;
        }
    return largest;
}

}  // namespace

PowerLawFit fit_power_law(std::span<const double> descending) {
    constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
    std::vector<double> logs;
    for (double x : descending) logs.push_back(std::log(x));
    PowerLawFit best{kNaN, kNaN, std::numeric_limits<double>::infinity(), 0, kNaN};
    double sum = 0;  // sum of ln x over the tail
    for (size_t n = 1; n <= logs.size(); ++n) {
        sum += logs[n - 1];
        // Equal values are one candidate, whose tail holds all of them.
        if (n < logs.size() && descending[n] == descending[n - 1]) continue;
        const double excess = sum - static_cast<double>(n) * logs[n - 1];
        if (!(descending[n - 1] < descending[0]) || !(excess > 0)) continue;
        const double alpha = 1 + static_cast<double>(n) / excess;
        const double d = distance(std::span(logs).first(n), alpha, best.distance);
        if (d < best.distance)
            best = {alpha, descending[n - 1], d, static_cast<int>(n),
                    (alpha - 1) / std::sqrt(static_cast<double>(n))};
    }
    if (best.count == 0) best.distance = kNaN;
    return best;
}

}  // namespace pastur
