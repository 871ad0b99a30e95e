#pragma once
// The law of the squared singular values of a sum of independent products of Gaussian matrices.
#include <complex>
#include <cstdint>
#include <vector>

#include "diag/law_point.h"
#include "diag/tracy_widom.h"

namespace pastur {

/// One product of the sum: X_1 ... X_L, X_i an N_{i-1} x N_i matrix of independent entries.
struct GaussianChain {
    std::vector<int64_t> dims;  ///< N_0 ... N_L
    double variance_product;    ///< prod_i sigma_i^2
    bool operator==(const GaussianChain&) const = default;
};

/// M = sum_i M_i, every M_i a d x d product of Gaussian factors of its own, such as the content and the
/// rotary part of a query-key form: the large-size law of the nonzero eigenvalues of M M^T.
///
/// Gaussian factors at both ends make the terms bi-invariant, so that their singular values, mirrored at 0,
/// are freely independent and R-transforms add (Benaych-Georges, Probab. Theory Relat. Fields 139 (2009)).
/// With g = G(z) of the mirrored law, h = g^2 and U = z g - 1, a chain has
///     U_i = h K_i prod_j (1 + a_j U_i),   K_i = variance_product prod_{j > 0} N_j,   a_j = d / N_j, 0 < j <
///     L,
/// and the sum U = sum_i U_i, z = (1 + U) / g, lambda = z^2. On real g > 0 the upper edge is the smallest z;
/// inside the spectrum g(z + i0) is followed from z + i infinity, where g = 1 / z, straight down. Per
/// eigenvalue of d, with 1 + U = lambda G(lambda) of the law of M M^T,
///     density(lambda) = -Im U / (pi lambda),
///     1 - F(lambda) = (1 / pi) Im [2 U - 2 ln g - sum_i (U_i - sum_j (U_i - ln(1 + a_j U_i) / a_j))],
/// the integral of (1 + U) d ln lambda. Where the terms' ranks add up to n < d, the d - n zeros are left out.
///
/// An evaluation takes six to seven microseconds. Variances of zero leave their term out, all of them zero
/// give the point mass at 0, one that is not finite gives NaN everywhere. Safe to use from several threads.
class ProductSumLaw {
  public:
    /// Throws (kUsage) without terms, when a chain does not begin and end with the same d, or for a negative
    /// variance.
    explicit ProductSumLaw(const std::vector<GaussianChain>& terms);

    /// n = min(d, sum of the terms' ranks): how many eigenvalues are not zero.
    int64_t count() const { return count_; }
    /// d: M is d x d.
    int64_t side() const { return static_cast<int64_t>(d_); }
    /// Variance of an entry of M.
    double entry_variance() const { return entry_variance_; }

    /// 0 where the ranks fill d, or where a chain's lower edge is 0 by itself.
    double lower_edge() const { return lower_; }
    double upper_edge() const { return upper_; }
    /// Of one nonzero eigenvalue; integrates to 1.
    double density(double lambda) const;
    double cdf(double lambda) const;
    /// Around the upper edge z = z_+ + F''(g_+) (g - g_+)^2 / 2: in lambda the edge's scale is
    /// 2 z_+ (F'' / (8 d^2))^(1/3).
    SoftEdge soft_edge() const { return {upper_, edge_scale_}; }
    double tracy_widom_quantile(double p) const { return soft_edge().quantile(p); }
    double mean_largest() const { return soft_edge().mean(); }
    /// Points from edge to edge, dense at both; ascending and finite; empty when the variance is 0 or not
    /// finite.
    std::vector<LawPoint> curve(int points) const;

  private:
    struct Term {
        double strength;             ///< K over the sum of all K
        std::vector<double> ratios;  ///< a_j, descending
        int64_t rank;
        double last_above = 0;  ///< the last U of the branch above the spectrum
        double last_below = 0;  ///< the last excess of U over its pole on the branch below the spectrum
    };
    /// A term's real U at a real h, and h U'(h).
    struct RealTerm {
        double u, h_slope;
    };
    /// A solution of the equations above at z.
    struct Point {
        std::complex<double> g;
        std::vector<std::complex<double>> u;
        double angles = 0;  ///< sum of arg(1 + a_j U_i) / a_j, followed from 0: may pass pi
        std::complex<double> sum() const;
    };
    /// Of Newton's method, a term's U: by itself, and with g.
    struct Step {
        std::complex<double> offset, by_g;
    };
    using Steps = std::vector<Step>;
    enum class Branch { kAboveSpectrum, kBelowSpectrum };

    bool trivial() const { return !(scale_ > 0); }
    RealTerm real_term(const Term& term, double h, Branch branch) const;
    double slope(double h, Branch branch) const;
    double slope_change(double h) const;
    double z_at(double h, Branch branch) const;
    void find_upper_edge();
    void find_lower_edge();
    bool newton(Point& point, std::complex<double> z, Steps& steps) const;
    double turn(const Point& from, const Point& to) const;
    Point at(double lambda) const;

    std::vector<Term> terms_;
    double d_, scale_;  ///< scale_: the sum of all K, by which z^2 is divided within
    int64_t count_;
    double entry_variance_ = 0;
    double lower_ = 0, upper_ = 0, edge_scale_ = 0;
};

}  // namespace pastur
