#pragma once
// Means over seeds with their 95 % intervals.
#include <cmath>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>

namespace pastur {

/// Mean of a figure over seeds, and the interval in which the mean of all seeds lies with probability 95 %, by
/// Student's t distribution. One value has no interval: low and high are NaN.
struct MeanAndInterval {
    int64_t count = 0;
    double mean = NAN, low = NAN, high = NAN;
    bool has_interval() const { return std::isfinite(low) && std::isfinite(high); }
};
/// Of the values that are finite.
MeanAndInterval mean_over_seeds(std::span<const double> values);

/// The mean of `to` less that of `from`, with Welch's interval, whose degrees of freedom are rounded down. No interval
/// if either has less than two finite values. count: that of the smaller one.
MeanAndInterval difference_of_means(std::span<const double> from, std::span<const double> to);

/// The significant digits of a statistic's mean over seeds, which are more than seeds determine, and those of a loss.
inline constexpr int kDigits = 4, kLossDigits = 6;

/// Rounded to so many significant digits; an integer is exact. Null if not finite.
nlohmann::ordered_json rounded(double value, int digits = kDigits);
/// {"n", "mean", "low", "high"}, rounded.
nlohmann::ordered_json to_json(const MeanAndInterval& value, int digits = kDigits);

}  // namespace pastur
