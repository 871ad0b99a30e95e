#pragma once
// The Marchenko-Pastur law and the variance it is fitted with.
// Marchenko & Pastur, "Distribution of eigenvalues for some sets of random matrices", Math. USSR Sb. 1
// (1967).
#include <cstdint>
#include <span>
#include <vector>

#include "diag/tracy_widom.h"
#include "diag/variance_estimate.h"

namespace pastur {

/// M a rows x cols matrix of independent entries of variance sigma^2; n = min(rows, cols), p = max, beta = n
/// / p. The n largest eigenvalues of M M^T (not divided by p) lie in sigma^2 p (1 -+ sqrt(beta))^2, with
/// density
///     sqrt((lambda_+ - lambda)(lambda - lambda_-)) / (2 pi beta sigma^2 p lambda).
/// Closed forms throughout; agrees with ProductLaw of the one factor. A variance of zero gives the point mass
/// at 0, one that is not finite gives NaN everywhere.
class MarchenkoPastur {
  public:
    /// Throws (kUsage) when a side is below 1 or the variance is negative.
    MarchenkoPastur(int64_t rows, int64_t cols, double variance);

    int64_t rows() const { return rows_; }
    int64_t cols() const { return cols_; }
    double variance() const { return variance_; }
    /// n: the eigenvalues the law speaks of.
    int64_t count() const;

    double lower_edge() const { return lower_; }
    double upper_edge() const { return upper_; }
    double cdf(double lambda) const;
    /// p in [0, 1]; throws (kUsage) for another p.
    double quantile(double p) const;

    /// Its scale is (sqrt(n) + sqrt(p)) (1 / sqrt(n) + 1 / sqrt(p))^(1/3) sigma^2 (Johnstone, Ann. Stat. 29
    /// (2001)).
    SoftEdge soft_edge() const;
    double tracy_widom_quantile(double p) const { return soft_edge().quantile(p); }

  private:
    int64_t rows_, cols_;
    double variance_;
    double lower_, upper_;
};

/// How many eigenvalues of a descending spectrum lie above its rounding level.
int64_t nonzero_count(std::span<const double> eigenvalues);

/// Variance of the entries of a rows x cols matrix M from the eigenvalues of M M^T in descending order, of which
/// those that are not given, up to min(rows, cols), are zero. NaN when an eigenvalue is not finite or none is given.
///
/// kEntries is trace / (rows cols) - entry_mean^2; a caller that has no entries, because M is kept as factors, may
/// leave the mean out. kMedian and kFit compare the nonzero eigenvalues alone with the law: in a matrix of low rank
/// the zeros would decide them. 0 where every eigenvalue is zero.
double estimate_variance(VarianceEstimate method, std::span<const double> eigenvalues, int64_t rows,
                         int64_t cols, double entry_mean = 0);

}  // namespace pastur
