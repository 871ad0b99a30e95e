#include "diag/marchenko_pastur.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "diag/rounding.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using std::numbers::pi;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// The root of f, which rises through zero between lo and hi, to the last bit or to `tolerance`.
template <typename F>
double bisect(double lo, double hi, double tolerance, F&& f) {
    while (hi - lo > tolerance) {
        const double middle = lo + (hi - lo) / 2;
        if (middle <= lo || middle >= hi) break;
        (f(middle) < 0 ? lo : hi) = middle;
    }
    return hi;
}

}  // namespace

MarchenkoPastur::MarchenkoPastur(int64_t rows, int64_t cols, double variance)
    : rows_(rows), cols_(cols), variance_(std::isfinite(variance) ? variance : kNaN) {
    if (rows < 1 || cols < 1 || variance < 0)
        fail(ExitCode::kUsage,
             "Marchenko-Pastur law: expected sides >= 1 and a variance >= 0, got {} x {} and {}", rows, cols,
             variance);
    const double n = std::sqrt(static_cast<double>(std::min(rows, cols)));
    const double p = std::sqrt(static_cast<double>(std::max(rows, cols)));
    lower_ = variance_ * (p - n) * (p - n);
    upper_ = variance_ * (p + n) * (p + n);
}

int64_t MarchenkoPastur::count() const {
    return std::min(rows_, cols_);
}

// With r = sqrt((lambda_+ - lambda) / (lambda - lambda_-)) and s = sqrt(lambda_+ / lambda_-)
// = (1 + sqrt(beta)) / (1 - sqrt(beta)), the integral of the density from the lower edge is
//     (1 / (pi beta)) [sqrt(...) / (2 sigma^2 p) + (1 + beta) atan(1 / r) - (1 - beta) atan(s / r)],
// where sqrt(...) is the root in the density.
double MarchenkoPastur::cdf(double lambda) const {
    if (std::isnan(variance_) || std::isnan(lambda)) return kNaN;
    if (lambda >= upper_) return 1;
    if (lambda <= lower_) return 0;
    const double n = static_cast<double>(count()), p = static_cast<double>(std::max(rows_, cols_));
    const double above = std::sqrt(upper_ - lambda), below = std::sqrt(lambda - lower_);
    double value = above * below / (2 * variance_) + (p + n) * std::atan2(below, above);
    if (n < p)
        value -= (p - n) *
                 std::atan2(below * (std::sqrt(p) + std::sqrt(n)), above * (std::sqrt(p) - std::sqrt(n)));
    return std::clamp(value / (pi * n), 0.0, 1.0);
}

double MarchenkoPastur::quantile(double p) const {
    if (!(p >= 0 && p <= 1))
        fail(ExitCode::kUsage,
             "quantile of the Marchenko-Pastur law: expected a probability in [0, 1], got {}", p);
    if (std::isnan(variance_) || p == 0) return lower_;
    if (p == 1) return upper_;
    return bisect(lower_, upper_, 0, [&](double lambda) { return cdf(lambda) - p; });
}

SoftEdge MarchenkoPastur::soft_edge() const {
    const double n = std::sqrt(static_cast<double>(count()));
    const double p = std::sqrt(static_cast<double>(std::max(rows_, cols_)));
    return {upper_, variance_ * (n + p) * std::cbrt(1 / n + 1 / p)};
}

namespace {

/// The variance of least Kolmogorov-Smirnov distance, max(sup(F_n - F), sup(F - F_n)), for positive values. A
/// larger variance lowers F everywhere, so the first supremum grows and the second falls: the least maximum
/// is where they are equal.
double fit_variance(std::span<const double> ascending, const MarchenkoPastur& unit) {
    const double n = static_cast<double>(ascending.size());
    const auto excess = [&](double log_variance) {
        const double factor = std::exp(-log_variance);
        double above = 0, below = 0;
        for (size_t i = 0; i < ascending.size(); ++i) {
            const double expected = unit.cdf(ascending[i] * factor);
            above = std::max(above, (static_cast<double>(i) + 1) / n - expected);
            below = std::max(below, expected - static_cast<double>(i) / n);
        }
        return above - below;
    };
    // At these ends the whole spectrum lies above, or (nearly) below, the law.
    const double lo = std::log(ascending.front() / unit.upper_edge());
    const double hi = std::log(ascending.back() / unit.quantile(0.5 / n));
    return std::exp(bisect(lo, hi, 1e-10, excess));
}

}  // namespace

int64_t nonzero_count(std::span<const double> eigenvalues) {
    if (eigenvalues.empty()) return 0;
    const double level = rounding_level(std::ssize(eigenvalues), eigenvalues.front());
    return std::count_if(eigenvalues.begin(), eigenvalues.end(),
                         [&](double lambda) { return lambda > level; });
}

double estimate_variance(VarianceEstimate method, std::span<const double> eigenvalues, int64_t rows,
                         int64_t cols, double entry_mean) {
    const MarchenkoPastur unit(rows, cols, 1);
    if (eigenvalues.empty() ||
        !std::all_of(eigenvalues.begin(), eigenvalues.end(), [](double l) { return std::isfinite(l); }))
        return kNaN;
    if (std::ssize(eigenvalues) > unit.count())
        eigenvalues = eigenvalues.first(static_cast<size_t>(unit.count()));
    if (method == VarianceEstimate::kEntries) {
        double trace = 0;
        for (const double lambda : eigenvalues) trace += std::max(lambda, 0.0);
        const double mean_square = trace / static_cast<double>(rows) / static_cast<double>(cols);
        return std::max(mean_square - entry_mean * entry_mean, 0.0);
    }
    const auto nonzero = static_cast<size_t>(nonzero_count(eigenvalues));
    if (nonzero == 0) return 0;
    const std::vector<double> ascending(eigenvalues.rend() - static_cast<std::ptrdiff_t>(nonzero),
                                        eigenvalues.rend());
    if (method == VarianceEstimate::kFit) return fit_variance(ascending, unit);
    return (ascending[(nonzero - 1) / 2] + ascending[nonzero / 2]) / 2 / unit.quantile(0.5);
}

}  // namespace pastur
