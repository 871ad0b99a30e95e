#pragma once
// The laws of the nulls as curves for the page.
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

/// The laws of a grid's records, as indices into LawCurves::curves(). Neither: the null has no law.
struct GridLaws {
    std::optional<size_t> shared;  ///< one law for all records
    std::vector<float> by_record;  ///< [steps][layers][heads] a law for each record; NaN: no law
};

/// The laws of several grids, each computed once and without its scale, which the page takes from the record.
/// The law of one product is determined by its dimensions, that of a sum also by the ratios of its terms'
/// strengths (variance_product N_1 ... N_L). The logarithms of these ratios are rounded to multiples of 1/32,
/// or of a larger step if a grid spans more than 256 of those.
class LawCurves {
  public:
    /// A grid whose chains are not valid has no law, so a damaged file is not an error.
    GridLaws add(const MetricGrid& grid);
    const std::vector<LawCurve>& curves() const { return curves_; }

  private:
    using Chains = std::vector<std::vector<int64_t>>;
    /// The terms' dimensions and the rounded logarithms of each term's strength over that of the first.
    using Key = std::pair<Chains, std::vector<double>>;
    size_t index_of(const Key& key);

    std::map<Key, size_t> index_;
    std::vector<LawCurve> curves_;
};

}  // namespace pastur
