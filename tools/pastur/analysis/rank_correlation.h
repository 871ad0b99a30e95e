#pragma once
// Rank correlations of onsets, whose chance is judged by shuffled pairs.
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "tools/pastur/analysis/intervals.h"

namespace pastur {

/// Two quantities of each form of a run. Infinity stands for an onset that did not occur: it ranks after all that did,
/// equal to others.
using Pairs = std::vector<std::pair<double, double>>;

/// Spearman's rank correlation; equal values share the mean of their ranks. NaN for less than three pairs, or if all
/// values of a side are equal.
double rank_correlation(const Pairs& pairs);

struct CorrelationTest {
    MeanAndInterval rho;  ///< over runs
    /// The share of kShuffles shuffles, and the observation itself, whose mean over the runs is at least as large (if
    /// two-sided: as far from 0). NaN if no run has a correlation. The shuffles depend on nothing but `key`.
    double p = NAN;
};
inline constexpr int kShuffles = 1000;
enum class Tail : uint8_t { kUpper, kBoth };
CorrelationTest test_correlation(std::span<const Pairs* const> runs, Tail tail, uint64_t key);

}  // namespace pastur
