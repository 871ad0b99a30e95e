#include "diag/null.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>

#include "kernels/base/error.h"

namespace pastur {

namespace {

/// MarchenkoPastur, ProductLaw and ProductSumLaw answer the same questions.
template <typename Law>
Null null_by(const char* name, const Law& law, double entry_variance, double tw_quantile) {
    return {name,
            law.count(),
            law.tracy_widom_quantile(tw_quantile),
            law.lower_edge(),
            law.upper_edge(),
            entry_variance,
            [law](double lambda) { return law.cdf(lambda); }};
}

}  // namespace

Null mp_null(const MarchenkoPastur& law, double tw_quantile) {
    return null_by("mp", law, law.variance(), tw_quantile);
}

Null mp_null(std::span<const double> eigenvalues, int64_t rows, int64_t cols, VarianceEstimate estimate,
             double tw_quantile) {
    Null null = mp_null(MarchenkoPastur(rows, cols, estimate_variance(estimate, eigenvalues, rows, cols)),
                        tw_quantile);
    if (estimate != VarianceEstimate::kEntries && 2 * nonzero_count(eigenvalues) < std::min(rows, cols) &&
        null.sigma2 > 0)
        null.flags.push_back("below_half_rank");
    return null;
}

Null product_null(const ProductLaw& law, double tw_quantile) {
    Null null = null_by("product", law, law.entry_variance(), tw_quantile);
    const auto rows = static_cast<double>(law.dims().front()),
               columns = static_cast<double>(law.dims().back());
    null.stable_rank = law.entry_variance() * rows * columns / law.mean_largest();
    return null;
}

Null product_null(const ProductSumLaw& law, double tw_quantile) {
    Null null = null_by("product", law, law.entry_variance(), tw_quantile);
    const auto d = static_cast<double>(law.side());
    null.stable_rank = law.entry_variance() * d * d / law.mean_largest();
    return null;
}

namespace {

/// Mean position of the k-th eigenvalue from the edge, in scales of the edge; k = 1, 2, ...
double airy_position(int k) {
    return k == 1 ? kTracyWidomMean : -std::pow(1.5 * std::numbers::pi * (k - 0.75), 2.0 / 3);
}

/// The edge that the first eigenvalues of averaged spectra speak of.
SoftEdge edge_of(std::span<const std::vector<double>> spectra) {
    const int n = static_cast<int>(spectra[0].size());
    // Further in, the density bends away from the square root that the Airy process has.
    const int used = std::min(n, std::clamp(n / 8, 2, 8));
    double first = 0, spacing = 0, airy_spacing = 0;
    for (const std::vector<double>& spectrum : spectra) {
        first += spectrum[0];
        for (int k = 2; k <= used; ++k) spacing += spectrum[0] - spectrum[static_cast<size_t>(k - 1)];
    }
    for (int k = 2; k <= used; ++k) airy_spacing += airy_position(1) - airy_position(k);
    const double draws = static_cast<double>(spectra.size());
    const double scale = used > 1 ? spacing / draws / airy_spacing : 0;
    return {first / draws - scale * kTracyWidomMean, scale};
}

}  // namespace

Null drawn_null(const char* name, std::span<const std::vector<double>> spectra, double tw_quantile,
                double entry_variance) {
    PASTUR_CHECK(!spectra.empty() && !spectra[0].empty(), "a {} null of {} spectra", name, spectra.size());
    auto pool = std::make_shared<std::vector<double>>();
    double largest = 0, smallest = 0;
    for (const std::vector<double>& spectrum : spectra) {
        PASTUR_CHECK(spectrum.size() == spectra[0].size(), "draws of {} and {} eigenvalues", spectrum.size(),
                     spectra[0].size());
        pool->insert(pool->end(), spectrum.begin(), spectrum.end());
        largest = std::max(largest, spectrum.front());
        smallest += std::max(spectrum.back(), 0.0) / static_cast<double>(spectra.size());
    }
    const int64_t count = static_cast<int64_t>(spectra[0].size());
    if (!std::all_of(pool->begin(), pool->end(), [](double lambda) { return std::isfinite(lambda); })) {
        constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
        return {name, count, kNaN, kNaN, kNaN, entry_variance, [](double) { return kNaN; }};
    }
    std::sort(pool->begin(), pool->end());
    const SoftEdge edge = edge_of(spectra);
    return {name, count, count > 1 ? edge.quantile(tw_quantile) : largest, smallest,
            count > 1 ? edge.edge : largest, entry_variance,
            // Half of a step at the step itself: the distance of the pool to itself is then half a step too.
            [pool](double lambda) {
                const auto [below, above] = std::equal_range(pool->begin(), pool->end(), lambda);
                return static_cast<double>((below - pool->begin()) + (above - pool->begin())) /
                       (2 * static_cast<double>(pool->size()));
            }};
}

}  // namespace pastur
