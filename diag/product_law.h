#pragma once
// The law of the squared singular values of a product of independent Gaussian matrices.
#include <cstdint>
#include <memory>
#include <vector>

#include "diag/law_point.h"
#include "diag/tracy_widom.h"

namespace pastur {

/// M = X_1 ... X_L, X_i an N_{i-1} x N_i matrix of independent N(0, sigma_i^2): the large-size law of the
/// nonzero eigenvalues of M M^T. Freely independent factors multiply their S-transforms (Voiculescu), and
/// Marchenko-Pastur's is 1 / (1 + c z). With N_b the smallest dimension, c_j = N_b / N_j and
///     lambda = (prod_i sigma_i^2) (prod_{j != b} N_j) x,    u = x G(x) - 1,
/// that gives x = (1 + u) prod_{j != b} (1 + c_j u) / u. On the spectrum, u = rho e^{-i phi} with 0 < phi <
/// pi; x is real where
///     arg(1 + u) + sum_j arg(1 + c_j u) = -phi,
/// whose left side falls monotonically in rho: one root, none to be picked. phi = 0 is the upper edge, pi the
/// lower, and
///     density(x) = rho sin(phi) / (pi x),
///     1 - F(x) = (1 / pi) [phi + sum_{j != b} (Im u - ((1 - c_j) / c_j) arg(1 + c_j u))].
/// Where another dimension equals N_b the lower edge is 0 and the density diverges there, like x^(1/k - 1)
/// with k dimensions of N_b (k = 2 for one square factor, 3 for a product of two).
///
/// Everything is in units of eigenvalues of M M^T. A variance of zero gives the point mass at 0; one that is
/// not finite gives NaN everywhere. Copies share the tables: construct once per chain of dimensions (0.2
/// ms), then rescale. An evaluation takes about a microsecond. Safe to use from several threads.
class ProductLaw {
  public:
    /// dims: N_0 ... N_L, L >= 1. variance_product: prod_i sigma_i^2. Throws (kUsage) when fewer than two
    /// dimensions are given, one is below 1, or the variance is negative.
    ProductLaw(std::vector<int64_t> dims, double variance_product);
    /// The same chain with other variances.
    ProductLaw rescaled(double variance_product) const;

    const std::vector<int64_t>& dims() const;
    double variance_product() const { return variance_product_; }
    /// Variance of an entry of M: (prod sigma_i^2) N_1 ... N_{L-1}.
    double entry_variance() const;
    /// N_b: how many eigenvalues are not zero.
    int64_t count() const;
    /// (prod sigma_i^2)(prod_{j != b} N_j), by which x becomes lambda; also the mean of the law.
    double scale() const;

    double lower_edge() const;
    double upper_edge() const;
    /// Of one nonzero eigenvalue; integrates to 1. Infinite at a lower edge of 0.
    double density(double lambda) const;
    double cdf(double lambda) const;
    /// The upper edge at this finite size: (N_b a)^(-2/3) with a = sqrt(2 / x''(u_+)) / x_+ is its scale.
    SoftEdge soft_edge() const;
    /// The quantile p of the largest eigenvalue, p as tracy_widom_quantile() accepts it, and its mean.
    double tracy_widom_quantile(double p) const { return soft_edge().quantile(p); }
    double mean_largest() const { return soft_edge().mean(); }

    /// About `points` points from edge to edge, at steps of phi that shrink towards the lower: dense where
    /// the density turns vertical, so that straight lines between them draw the law. Ascending and finite;
    /// empty when the variance is 0 or not finite.
    std::vector<LawPoint> curve(int points) const;

  private:
    class Unit;  // the law of x
    ProductLaw(std::shared_ptr<const Unit> unit, double variance_product);
    std::shared_ptr<const Unit> unit_;
    double variance_product_;
};

}  // namespace pastur
