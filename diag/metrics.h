#pragma once
// The numbers a spectrum is reduced to.
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "diag/null.h"

namespace pastur {

/// Of the eigenvalues lambda_1 >= ... >= lambda_n of M M^T against a null. A value that has no meaning (0 /
/// 0, too few eigenvalues, input that is not finite) is NaN.
struct SpectrumMetrics {
    double lambda_max;
    double lambda_plus;  ///< the null's, as lambda_minus, bulk_edge and sigma2
    double lambda_minus;
    double bulk_edge;
    double sigma2;
    double mp_gap;               ///< lambda_max - lambda_plus
    double mp_gap_ratio;         ///< lambda_max / lambda_plus
    double outlier_count;        ///< #{lambda_i > lambda_plus}
    double outlier_fraction;     ///< of n
    double outlier_energy;       ///< sum of outliers / sum of all
    double mp_soft_rank;         ///< lambda_plus / lambda_max (Martin & Mahoney, arXiv 1810.01075)
    double stable_rank;          ///< sum / lambda_max
    double participation_ratio;  ///< (sum)^2 / sum of squares
    double entropy_rank;         ///< exp(-sum p ln p), p = lambda / sum (Roy & Vetterli 2007)
    double alpha;                ///< exponent of the power-law tail and where that begins (diag/power_law.h)
    double alpha_xmin;
    double ks;  ///< Kolmogorov-Smirnov distance to the null's law

    /// Any of:
    ///   "empty"           no eigenvalues: every metric of them is NaN
    ///   "nonfinite"       an eigenvalue is NaN or infinite: the same
    ///   "zero"            every eigenvalue is zero
    ///   "rank_deficient"  some, but not all, are below 4 sqrt(n) 2^-52 lambda_max: rounding
    ///   "null_nonfinite"  the null has no finite edge, so that what compares with it is NaN
    std::vector<std::string> flags;
};

/// One metric's name, as it stands in summary.jsonl and in TensorBoard, and its place.
struct MetricField {
    std::string_view name;
    double SpectrumMetrics::*value;
};
inline constexpr std::array<MetricField, 17> kMetricFields = {{
    {"lambda_max", &SpectrumMetrics::lambda_max},
    {"lambda_plus", &SpectrumMetrics::lambda_plus},
    {"lambda_minus", &SpectrumMetrics::lambda_minus},
    {"bulk_edge", &SpectrumMetrics::bulk_edge},
    {"sigma2", &SpectrumMetrics::sigma2},
    {"mp_gap", &SpectrumMetrics::mp_gap},
    {"mp_gap_ratio", &SpectrumMetrics::mp_gap_ratio},
    {"outlier_count", &SpectrumMetrics::outlier_count},
    {"outlier_fraction", &SpectrumMetrics::outlier_fraction},
    {"outlier_energy", &SpectrumMetrics::outlier_energy},
    {"mp_soft_rank", &SpectrumMetrics::mp_soft_rank},
    {"stable_rank", &SpectrumMetrics::stable_rank},
    {"participation_ratio", &SpectrumMetrics::participation_ratio},
    {"entropy_rank", &SpectrumMetrics::entropy_rank},
    {"alpha", &SpectrumMetrics::alpha},
    {"alpha_xmin", &SpectrumMetrics::alpha_xmin},
    {"ks", &SpectrumMetrics::ks},
}};

/// All metrics. `eigenvalues`: descending, unless some are not finite; slightly negative ones (rounding)
/// count as zero. Where there are fewer of them than the null's count, the missing ones are zeros to `ks`;
/// where there are more, the smallest are structural zeros to it and left out. About a millisecond for 768.
/// Never throws for what a matrix can hold.
SpectrumMetrics measure(std::span<const double> eigenvalues, const Null& null);

/// sup |F_n - F| between the eigenvalues and a null's law, with that reading of their number.
double kolmogorov_smirnov(std::span<const double> eigenvalues, const Null& null);

}  // namespace pastur
