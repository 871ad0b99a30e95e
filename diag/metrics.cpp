#include "diag/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "diag/power_law.h"
#include "diag/rounding.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// 0 / 0 is NaN; so is anything over zero: a ratio to nothing is no large number.
double ratio(double numerator, double denominator) {
    return denominator == 0 ? kNaN : numerator / denominator;
}

/// `rounding`: the level up to which an eigenvalue, or a null's edge, is zero.
void measure_outliers(std::span<const double> values, const Null& null, double rounding, SpectrumMetrics& m) {
    if (std::isnan(m.lambda_plus)) return;
    const double edge = m.lambda_plus > rounding ? m.lambda_plus : 0;
    m.mp_gap = m.lambda_max - m.lambda_plus;
    m.mp_gap_ratio = ratio(m.lambda_max, edge);
    m.mp_soft_rank = ratio(edge, m.lambda_max);
    const double lower_edge = m.lambda_minus > rounding ? m.lambda_minus : 0;
    const auto structural_zeros = values.begin() + std::min(null.count, std::ssize(values));
    m.outliers_below = static_cast<double>(
        std::count_if(values.begin(), structural_zeros, [&](double lambda) { return lambda < lower_edge; }));
    double all = 0, outliers = 0;
    m.outlier_count = 0;
    for (const double lambda : values) {
        const double p = ratio(lambda, m.lambda_max);
        all += p;
        if (lambda > std::max(edge, rounding)) {
            outliers += p;
            ++m.outlier_count;
        }
    }
    m.outlier_fraction = m.outlier_count / static_cast<double>(values.size());
    m.outlier_energy = ratio(outliers, all);
}

}  // namespace

/// From p = lambda / lambda_max, so that no square leaves the range of double.
EffectiveRanks effective_ranks(std::span<const double> eigenvalues) {
    double sum = 0, squares = 0, logs = 0;
    for (double lambda : eigenvalues) {
        const double p = lambda / eigenvalues[0];
        sum += p;
        squares += p * p;
        if (p > 0) logs += p * std::log(p);
    }
    return {sum, sum * sum / squares, sum * std::exp(-logs / sum)};
}

const SpectrumFlag& flag_named(std::string_view flag) {
    const auto found = std::find_if(kSpectrumFlags.begin(), kSpectrumFlags.end(),
                                    [&](const SpectrumFlag& known) { return known.name == flag; });
    PASTUR_CHECK(found != kSpectrumFlags.end(), "unknown flag {}", flag);
    return *found;
}

double kolmogorov_smirnov(std::span<const double> eigenvalues, const Null& null) {
    const int64_t n = std::min(null.count, std::ssize(eigenvalues));
    double largest = 0;
    for (int64_t i = 0; i < n; ++i) {  // descending: i eigenvalues lie above
        const double expected = null.cdf(std::max(eigenvalues[static_cast<size_t>(i)], 0.0));
        const double upper = static_cast<double>(n - i) / static_cast<double>(n);
        const double lower = static_cast<double>(n - i - 1) / static_cast<double>(n);
        // A NaN must come through, and std::max would drop it.
        if (std::isnan(expected)) return kNaN;
        largest = std::max({largest, upper - expected, expected - lower});
    }
    return largest;
}

SpectrumMetrics measure(std::span<const double> eigenvalues, const Null& null) {
    SpectrumMetrics m;
    for (const MetricField& field : kMetricFields) m.*field.value = kNaN;
    m.lambda_plus = null.lambda_plus;
    m.lambda_minus = null.lambda_minus;
    m.bulk_edge = null.bulk_edge;
    m.sigma2 = null.sigma2;
    m.flags = null.flags;
    if (!std::isfinite(null.lambda_plus)) m.flags.push_back("null_nonfinite");
    if (eigenvalues.empty()) {
        m.flags.push_back("empty");
        return m;
    }
    if (!std::all_of(eigenvalues.begin(), eigenvalues.end(), [](double l) { return std::isfinite(l); })) {
        m.flags.push_back("nonfinite");
        return m;
    }
    PASTUR_CHECK(std::is_sorted(eigenvalues.rbegin(), eigenvalues.rend()), "eigenvalues are not descending");

    std::vector<double> values(eigenvalues.begin(), eigenvalues.end());
    for (double& lambda : values) lambda = std::max(lambda, 0.0);
    m.lambda_max = values[0];
    const double rounding = rounding_level(std::ssize(values), m.lambda_max);
    measure_outliers(values, null, rounding, m);
    if (m.lambda_max == 0) {
        m.flags.push_back("zero");
        return m;
    }
    if (null.lambda_plus <= rounding) m.flags.push_back("null_zero");
    m.ks = kolmogorov_smirnov(values, null);
    const auto end =
        std::partition_point(values.begin(), values.end(), [&](double lambda) { return lambda > rounding; });
    if (end != values.end()) m.flags.push_back("rank_deficient");
    const EffectiveRanks ranks = effective_ranks(values);
    m.stable_rank = ranks.stable;
    m.participation_ratio = ranks.participation;
    m.entropy_rank = ranks.entropy;
    const PowerLawFit fit = fit_power_law(std::span(values).first(static_cast<size_t>(end - values.begin())));
    m.alpha = fit.alpha;
    m.alpha_xmin = fit.xmin;
    m.alpha_ks = fit.distance;
    m.alpha_tail = fit.count > 0 ? fit.count : kNaN;
    m.alpha_error = fit.error;
    return m;
}

}  // namespace pastur
