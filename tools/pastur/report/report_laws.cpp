#include "tools/pastur/report/report_laws.h"

#include <algorithm>
#include <cmath>

#include "diag/product_law.h"
#include "diag/product_sum_law.h"

namespace pastur {
namespace {

constexpr double kLow = 0.01, kHigh = 0.99;  ///< quantiles of the largest eigenvalue
constexpr int kProductPoints = 256, kSumPoints = 96;
constexpr double kLogStep = 1.0 / 32;  ///< of a ratio of strengths: 3 %
constexpr double kMostSteps = 256;
/// Beyond this ratio of strengths the eigenvalues of the weaker term are below the rounding of the stronger
/// term's.
const double kMaxLogRatio = std::log(1e12);
constexpr int64_t kMaxDimension = 1'000'000'000;
constexpr size_t kMaxLength = 16;  ///< dimensions of a chain, and terms of a sum

template <typename Law>
LawCurve curve_of(const Law& law, int points) {
    const double edge = law.upper_edge();
    LawCurve curve{law.count(),
                   law.lower_edge() / edge,
                   law.tracy_widom_quantile(kLow) / edge,
                   law.tracy_widom_quantile(kHigh) / edge,
                   {}};
    const std::vector<LawPoint> drawn = law.curve(points);
    for (const LawPoint& point : drawn) curve.points.push_back(static_cast<float>(point.lambda / edge));
    for (const LawPoint& point : drawn) curve.points.push_back(static_cast<float>(point.density * edge));
    for (const LawPoint& point : drawn) curve.points.push_back(static_cast<float>(point.cdf));
    return curve;
}

bool is_chain(const std::vector<int64_t>& dims) {
    return dims.size() >= 2 && dims.size() <= kMaxLength &&
           std::all_of(dims.begin(), dims.end(),
                       [](int64_t dim) { return dim >= 1 && dim <= kMaxDimension; });
}

/// Whether ProductSumLaw can add the chains: all are d x d.
bool is_sum(const std::vector<std::vector<int64_t>>& chains) {
    return chains.size() <= kMaxLength &&
           std::all_of(chains.begin(), chains.end(), [&](const std::vector<int64_t>& dims) {
               return is_chain(dims) && dims.front() == chains[0].front() && dims.back() == chains[0].front();
           });
}

/// ln (variance_product N_1 ... N_L).
double log_strength(const std::vector<int64_t>& dims, double variance_product) {
    double result = std::log(variance_product);
    for (size_t j = 1; j < dims.size(); ++j) result += std::log(static_cast<double>(dims[j]));
    return result;
}

/// Whether a ratio of strengths has a curve; a NaN has none.
bool has_curve(double log_ratio) {
    return std::abs(log_ratio) <= kMaxLogRatio;
}

}  // namespace

size_t LawCurves::index_of(const Key& key) {
    const auto [at, added] = index_.try_emplace(key, curves_.size());
    if (!added) return at->second;
    const auto& [chains, log_ratios] = key;
    if (chains.size() == 1) {
        curves_.push_back(curve_of(ProductLaw(chains[0], 1), kProductPoints));
        return at->second;
    }
    std::vector<GaussianChain> terms;
    for (size_t i = 0; i < chains.size(); ++i)
        terms.push_back({chains[i], std::exp(log_ratios[i] - log_strength(chains[i], 1))});
    curves_.push_back(curve_of(ProductSumLaw(terms), kSumPoints));
    return at->second;
}

GridLaws LawCurves::add(const MetricGrid& grid) {
    const Chains& chains = grid.chains;
    if (chains.size() == 1 && is_chain(chains[0])) {
        std::vector<int64_t> dims = chains[0];
        std::sort(dims.begin(), dims.end());  // the law does not depend on their order
        return {index_of({{dims}, {0}}), {}};
    }
    if (chains.size() < 2 || !is_sum(chains)) return {};

    const size_t records = grid.variances[0].size();
    std::vector<std::vector<double>> log_ratios(records, std::vector<double>(chains.size()));
    double least = INFINITY, greatest = -INFINITY;
    for (size_t record = 0; record < records; ++record)
        for (size_t i = 0; i < chains.size(); ++i) {
            const double ratio = log_strength(chains[i], grid.variances[i][record]) -
                                 log_strength(chains[0], grid.variances[0][record]);
            log_ratios[record][i] = ratio;
            if (!has_curve(ratio)) continue;
            least = std::min(least, ratio);
            greatest = std::max(greatest, ratio);
        }
    const double step = std::max(kLogStep, (greatest - least) / kMostSteps);
    GridLaws laws{{}, std::vector<float>(records, NAN)};
    for (size_t record = 0; record < records; ++record) {
        std::vector<double>& ratios = log_ratios[record];
        if (!std::all_of(ratios.begin(), ratios.end(), has_curve)) continue;
        for (double& ratio : ratios) ratio = std::round(ratio / step) * step;
        laws.by_record[record] = static_cast<float>(index_of({chains, ratios}));
    }
    return laws;
}

}  // namespace pastur
