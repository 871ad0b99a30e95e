#pragma once
#include <cstdint>

namespace pastur {

/// How the variance of a matrix's entries is estimated (estimate_variance in marchenko_pastur.h).
enum class VarianceEstimate : uint8_t {
    kEntries,  ///< the entries' own: outliers count in full
    kMedian,   ///< median eigenvalue / median of the law with sigma = 1: moved little by outliers
    kFit,      ///< the least Kolmogorov-Smirnov distance between spectrum and law
};

}  // namespace pastur
