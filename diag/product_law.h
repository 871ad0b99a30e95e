#pragma once
// The law of the squared singular values of a product of independent Gaussian matrices.
#include <cstdint>
#include <memory>
#include <vector>

#include "diag/law_point.h"
#include "diag/tracy_widom.h"

namespace pastur {

/// The large-size law of the nonzero eigenvalues of M M^T for M = X_1 ... X_L, where X_i is an N_{i-1} x N_i
/// matrix of independent N(0, sigma_i^2) entries. The S-transforms of freely independent factors multiply
/// (Voiculescu), and that of Marchenko-Pastur is 1 / (1 + c z). With N_b the smallest dimension, c_j = N_b /
/// N_j and
///     lambda = (prod_i sigma_i^2) (prod_{j != b} N_j) x,    u = x G(x) - 1,
/// this gives x = (1 + u) prod_{j != b} (1 + c_j u) / u. On the spectrum u = rho e^{-i phi} with 0 < phi <
/// pi, and x is real where
///     arg(1 + u) + sum_j arg(1 + c_j u) = -phi.
/// The left side falls monotonically in rho, so there is one root. phi = 0 is the upper edge and phi = pi the
/// lower one;
///     density(x) = rho sin(phi) / (pi x),
///     1 - F(x) = (1 / pi) [phi + sum_{j != b} (Im u - ((1 - c_j) / c_j) arg(1 + c_j u))].
/// If k > 1 dimensions equal N_b, the lower edge is 0 and the density diverges there like x^(1/k - 1): k = 2
/// for one square factor, k = 3 for a product of two.
///
/// Arguments and results are in units of eigenvalues of M M^T. A variance of zero gives the point mass at 0;
/// one that is not finite gives NaN everywhere. Construct once per chain of dimensions (0.2 ms), then
/// rescale: copies share their tables. An evaluation takes about a microsecond. Thread-safe.
class ProductLaw {
  public:
    /// dims: N_0 ... N_L, L >= 1. variance_product: prod_i sigma_i^2. Throws (kUsage) if fewer than two
    /// dimensions are given, one is below 1, or the variance is negative.
    ProductLaw(std::vector<int64_t> dims, double variance_product);
    /// The same chain with other variances.
    ProductLaw rescaled(double variance_product) const;

    const std::vector<int64_t>& dims() const;
    double variance_product() const { return variance_product_; }
    /// Variance of an entry of M: (prod sigma_i^2) N_1 ... N_{L-1}.
    double entry_variance() const;
    /// N_b, the number of nonzero eigenvalues.
    int64_t count() const;
    /// lambda / x = (prod sigma_i^2)(prod_{j != b} N_j), which is also the mean of the law.
    double scale() const;

    double lower_edge() const;
    double upper_edge() const;
    /// The density of one nonzero eigenvalue, which integrates to 1. Infinite at a lower edge of 0.
    double density(double lambda) const;
    double cdf(double lambda) const;
    /// The upper edge at this size; a = sqrt(2 / x''(u_+)) / x_+.
    SoftEdge soft_edge() const;
    /// The p-quantile and the mean of the largest eigenvalue; p as tracy_widom_quantile() accepts it.
    double tracy_widom_quantile(double p) const { return soft_edge().quantile(p); }
    double mean_largest() const { return soft_edge().mean(); }

    /// About `points` points from edge to edge, dense where the density is steep, so straight lines between
    /// them draw the law. Ascending and finite; empty if the variance is 0 or not finite.
    std::vector<LawPoint> curve(int points) const;

  private:
    class Unit;  ///< the law of x
    ProductLaw(std::shared_ptr<const Unit> unit, double variance_product);
    std::shared_ptr<const Unit> unit_;
    double variance_product_;
};

}  // namespace pastur
