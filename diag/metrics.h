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
    double mp_gap;            ///< lambda_max - lambda_plus
    double mp_gap_ratio;      ///< lambda_max / lambda_plus
    double outlier_count;     ///< #{lambda_i > lambda_plus}
    double outlier_fraction;  ///< of n
    double outlier_energy;    ///< sum of outliers / sum of all
    /// #{lambda_i < lambda_minus} of the null's count; 0 where lambda_minus is 0, as for square matrices
    double outliers_below;
    double mp_soft_rank;         ///< lambda_plus / lambda_max (Martin & Mahoney, arXiv 1810.01075)
    double stable_rank;          ///< sum / lambda_max
    double participation_ratio;  ///< (sum)^2 / sum of squares
    double entropy_rank;         ///< exp(-sum p ln p), p = lambda / sum (Roy & Vetterli 2007)
    double alpha;                ///< exponent of the power-law tail (diag/power_law.h)
    double alpha_xmin;           ///< where the tail begins
    double alpha_ks;             ///< D: Kolmogorov-Smirnov distance between the tail and its fit
    double alpha_tail;           ///< number of eigenvalues in the tail
    double alpha_error;          ///< standard error of alpha
    double ks;                   ///< Kolmogorov-Smirnov distance to the null's law

    /// Names of kSpectrumFlags.
    std::vector<std::string> flags;
};

/// stable_rank, participation_ratio and entropy_rank of SpectrumMetrics.
struct EffectiveRanks {
    double stable, participation, entropy;
};
/// Of descending eigenvalues, the first of which is above 0.
EffectiveRanks effective_ranks(std::span<const double> eigenvalues);

/// One metric's name, as it stands in summary.jsonl and in TensorBoard, and its place.
struct MetricField {
    std::string_view name;
    double SpectrumMetrics::*value;
    bool by_null = false;  ///< depends on the null
};
inline constexpr std::array<MetricField, 21> kMetricFields = {{
    {"lambda_max", &SpectrumMetrics::lambda_max},
    {"lambda_plus", &SpectrumMetrics::lambda_plus, true},
    {"lambda_minus", &SpectrumMetrics::lambda_minus, true},
    {"bulk_edge", &SpectrumMetrics::bulk_edge, true},
    {"sigma2", &SpectrumMetrics::sigma2, true},
    {"mp_gap", &SpectrumMetrics::mp_gap, true},
    {"mp_gap_ratio", &SpectrumMetrics::mp_gap_ratio, true},
    {"outlier_count", &SpectrumMetrics::outlier_count, true},
    {"outlier_fraction", &SpectrumMetrics::outlier_fraction, true},
    {"outlier_energy", &SpectrumMetrics::outlier_energy, true},
    {"outliers_below", &SpectrumMetrics::outliers_below, true},
    {"mp_soft_rank", &SpectrumMetrics::mp_soft_rank, true},
    {"stable_rank", &SpectrumMetrics::stable_rank},
    {"participation_ratio", &SpectrumMetrics::participation_ratio},
    {"entropy_rank", &SpectrumMetrics::entropy_rank},
    {"alpha", &SpectrumMetrics::alpha},
    {"alpha_xmin", &SpectrumMetrics::alpha_xmin},
    {"alpha_ks", &SpectrumMetrics::alpha_ks},
    {"alpha_tail", &SpectrumMetrics::alpha_tail},
    {"alpha_error", &SpectrumMetrics::alpha_error},
    {"ks", &SpectrumMetrics::ks, true},
}};

/// A flag of a record and its meaning.
struct SpectrumFlag {
    std::string_view name, meaning;
    bool by_null = false;  ///< depends on the null
};
inline constexpr std::array<SpectrumFlag, 8> kSpectrumFlags = {{
    {"empty", "there are no eigenvalues"},
    {"nonfinite", "an eigenvalue is NaN or infinite, so every metric of the spectrum is missing"},
    {"solver_failed", "the eigenvalue solver reported an error, so there are no eigenvalues"},
    {"zero", "every eigenvalue is zero"},
    {"rank_deficient", "some eigenvalues, but not all, are zero to rounding (4 sqrt(n) 2^-52 lambda_max)"},
    {"null_nonfinite", "the null has no finite edge, so every comparison with it is missing", true},
    {"null_zero", "the null's edge is zero to rounding, so every nonzero eigenvalue counts as an outlier",
     true},
    {"below_half_rank",
     "fewer than half of the eigenvalues of the mp law are nonzero; its variance was estimated from those",
     true},
}};
/// `flag`: a name of kSpectrumFlags.
const SpectrumFlag& flag_named(std::string_view flag);

/// All metrics. `eigenvalues`: descending, unless some are not finite; slightly negative ones (rounding)
/// count as zero, and nothing at the rounding level is an outlier. About a millisecond for 768. Never throws
/// for what a matrix can hold.
SpectrumMetrics measure(std::span<const double> eigenvalues, const Null& null);

/// sup |F_n - F| between the eigenvalues and a null's law. Zeros that the matrix has by construction are left
/// out: where there are more eigenvalues than the null's count, the smallest ones; where there are fewer, n
/// is their number, not the null's.
double kolmogorov_smirnov(std::span<const double> eigenvalues, const Null& null);

}  // namespace pastur
