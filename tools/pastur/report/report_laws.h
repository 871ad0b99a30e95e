#pragma once
// The curves that the page draws of the nulls' laws.
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "tools/pastur/report/report_spectra.h"

namespace pastur {

/// A null's law in units of the upper edge of its bulk.
struct LawCurve {
    int64_t count;  ///< nonzero eigenvalues
    double lower_edge;
    double largest_low, largest_high;  ///< the 1 % and 99 % quantiles of the largest eigenvalue
    std::vector<float> points;         ///< [3][points]: lambda, ascending; density; distribution function
};

/// The law of every record of a grid, as indices into LawCurves::curves().
struct GridLaws {
    std::optional<size_t> shared;  ///< the law of all records, where it depends on the dimensions alone
    std::vector<float> by_record;  ///< steps x layers x heads, else; NaN: no law. Empty: the null has no law
};

/// The laws of several grids, each computed once. What sets the scale of a law is left to the page: a law of one
/// product depends on its dimensions alone, a law of a sum also on the ratios of its terms' strengths
/// (variance_product N_1 ... N_L). The logarithms of those ratios are rounded to multiples of 1/32, or coarser where
/// a grid spans more than 256 of them.
class LawCurves {
  public:
    /// Never throws for what a run's files can hold: a grid whose chains are not valid has no law.
    GridLaws add(const MetricGrid& grid);
    const std::vector<LawCurve>& curves() const { return curves_; }

  private:
    using Chains = std::vector<std::vector<int64_t>>;
    /// Dimensions of the terms, and the rounded logarithm of each term's strength over the first one's.
    using Key = std::pair<Chains, std::vector<double>>;
    size_t index_of(const Key& key);

    std::map<Key, size_t> index_;
    std::vector<LawCurve> curves_;
};

}  // namespace pastur
