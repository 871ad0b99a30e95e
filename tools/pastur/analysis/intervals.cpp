#include "tools/pastur/analysis/intervals.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

/// The 97.5 % quantile of Student's t distribution with `freedom` degrees of freedom.
double student_t(int64_t freedom) {
    constexpr std::array kQuantiles = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060,
                                       2.2622,  2.2281, 2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199,
                                       2.1098,  2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639,
                                       2.0595,  2.0555, 2.0518, 2.0484, 2.0452, 2.0423};
    if (freedom <= std::ssize(kQuantiles)) return kQuantiles[static_cast<size_t>(freedom - 1)];
    // Cornish and Fisher's expansion around the normal quantile z, exact to 1e-4 from 30 degrees on.
    constexpr double z = 1.959964;
    const auto n = static_cast<double>(freedom);
    return z + (z * z * z + z) / (4 * n) + (5 * std::pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n);
}

struct Moments {
    int64_t count = 0;
    double mean = NAN;
    double error = NAN;  ///< squared standard error of the mean; NaN of one value
};

Moments moments_of(std::span<const double> values) {
    Moments moments;
    double sum = 0;
    for (const double value : values)
        if (std::isfinite(value)) {
            sum += value;
            ++moments.count;
        }
    if (moments.count == 0) return moments;
    const auto n = static_cast<double>(moments.count);
    moments.mean = sum / n;
    if (moments.count == 1) return moments;
    double squares = 0;
    for (const double value : values)
        if (std::isfinite(value)) squares += (value - moments.mean) * (value - moments.mean);
    moments.error = squares / (n - 1) / n;
    return moments;
}

}  // namespace

MeanAndInterval mean_over_seeds(std::span<const double> values) {
    const Moments moments = moments_of(values);
    MeanAndInterval result{moments.count, moments.mean};
    if (moments.count < 2) return result;
    const double half = student_t(moments.count - 1) * std::sqrt(moments.error);
    result.low = result.mean - half;
    result.high = result.mean + half;
    return result;
}

MeanAndInterval difference_of_means(std::span<const double> from, std::span<const double> to) {
    const Moments a = moments_of(from), b = moments_of(to);
    MeanAndInterval result{std::min(a.count, b.count), b.mean - a.mean};
    if (result.count < 2) return result;
    const double error = a.error + b.error;
    double half = 0;
    if (error > 0) {
        const double freedom = error * error /
                               (a.error * a.error / static_cast<double>(a.count - 1) +
                                b.error * b.error / static_cast<double>(b.count - 1));
        // A sum of squares may fall a rounding error short of the integer it stands for.
        half = student_t(std::max<int64_t>(1, static_cast<int64_t>(freedom + 1e-9))) * std::sqrt(error);
    }
    result.low = result.mean - half;
    result.high = result.mean + half;
    return result;
}

nlohmann::ordered_json rounded(double value, int digits) {
    if (!std::isfinite(value)) return nullptr;
    if (value == std::floor(value) && std::abs(value) < 9e15) return static_cast<int64_t>(value);
    return std::strtod(fmt::format("{:.{}g}", value, digits).c_str(), nullptr);
}

nlohmann::ordered_json to_json(const MeanAndInterval& value, int digits) {
    return {{"n", value.count},
            {"mean", rounded(value.mean, digits)},
            {"low", rounded(value.low, digits)},
            {"high", rounded(value.high, digits)}};
}

}  // namespace pastur
