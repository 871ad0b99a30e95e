#pragma once
// The Marchenko-Pastur law and estimates of its variance. Marchenko & Pastur, "Distribution of eigenvalues
// for some sets of random matrices", Math. USSR Sb. 1 (1967).
#include <cstdint>
#include <span>
#include <vector>

#include "diag/tracy_widom.h"
#include "diag/variance_estimate.h"

namespace pastur {

/// The law of M M^T for a rows x cols matrix M of independent entries of variance sigma^2. With n = min(rows,
/// cols), p = max(rows, cols) and beta = n / p, the n largest eigenvalues (not divided by p) lie between
/// lambda_-+ = sigma^2 p (1 -+ sqrt(beta))^2 and have the density
///     sqrt((lambda_+ - lambda)(lambda - lambda_-)) / (2 pi beta sigma^2 p lambda).
/// Every function is a closed form; ProductLaw of one factor is the same law. A variance of zero gives the
/// point mass at 0; one that is not finite gives NaN everywhere.
class MarchenkoPastur {
  public:
    /// Throws (kUsage) when a side is below 1 or the variance is negative.
    MarchenkoPastur(int64_t rows, int64_t cols, double variance);

    int64_t rows() const { return rows_; }
    int64_t cols() const { return cols_; }
    double variance() const { return variance_; }
    /// n, the number of eigenvalues that the law describes.
    int64_t count() const;

    double lower_edge() const { return lower_; }
    double upper_edge() const { return upper_; }
    double cdf(double lambda) const;
    /// Throws (kUsage) unless p is in [0, 1].
    double quantile(double p) const;

    /// The scale is (sqrt(n) + sqrt(p)) (1 / sqrt(n) + 1 / sqrt(p))^(1/3) sigma^2 (Johnstone, Ann. Stat. 29
    /// (2001)).
    SoftEdge soft_edge() const;
    double tracy_widom_quantile(double p) const { return soft_edge().quantile(p); }

  private:
    int64_t rows_, cols_;
    double variance_;
    double lower_, upper_;
};

/// The number of eigenvalues of a descending spectrum above its rounding level.
int64_t nonzero_count(std::span<const double> eigenvalues);

/// Variance of the entries of a rows x cols matrix M from the eigenvalues of M M^T, descending. Eigenvalues
/// that are not given, up to min(rows, cols) of them, are zero. Returns NaN if an eigenvalue is not finite or
/// none is given, and 0 if every eigenvalue is zero.
///
/// kEntries is trace / (rows cols) - entry_mean^2; a caller that has M only as factors may leave the mean
/// out. kMedian and kFit compare the nonzero eigenvalues alone with the law: in a matrix of low rank the
/// zeros would decide them.
double estimate_variance(VarianceEstimate method, std::span<const double> eigenvalues, int64_t rows,
                         int64_t cols, double entry_mean = 0);

}  // namespace pastur
