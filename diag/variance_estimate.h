#pragma once
#include <cstdint>

namespace pastur {

/// How the variance of a matrix's entries is estimated (estimate_variance in marchenko_pastur.h).
enum class VarianceEstimate : uint8_t {
    kEntries,  ///< the variance of the entries, which includes outliers
    kMedian,   ///< median nonzero eigenvalue / median of the law with sigma = 1; outliers move it little
    kFit,  ///< the variance of least Kolmogorov-Smirnov distance between the nonzero eigenvalues and the law
};

}  // namespace pastur
