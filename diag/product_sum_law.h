#pragma once
// The law of the squared singular values of a sum of independent products of Gaussian matrices.
#include <complex>
#include <cstdint>
#include <vector>

#include "diag/law_point.h"
#include "diag/tracy_widom.h"

namespace pastur {

/// One product of the sum: X_1 ... X_L, where X_i is an N_{i-1} x N_i matrix of independent entries.
struct GaussianChain {
    std::vector<int64_t> dims;  ///< N_0 ... N_L
    double variance_product;    ///< prod_i sigma_i^2
    bool operator==(const GaussianChain&) const = default;
};

/// The large-size law of the nonzero eigenvalues of M M^T for M = sum_i M_i, where every M_i is a d x d
/// product of Gaussian factors that no other term shares, such as the content and the rotary part of a
/// query-key form.
///
/// Gaussian factors at both ends make the terms bi-invariant, so their singular values, mirrored at 0, are
/// freely independent and R-transforms add (Benaych-Georges, Probab. Theory Relat. Fields 139 (2009)). With g
/// = G(z) of the mirrored law, h = g^2 and U = z g - 1, a chain has
///     U_i = h K_i prod_j (1 + a_j U_i),  K_i = variance_product prod_{j > 0} N_j,  a_j = d / N_j, 0 < j < L,
/// and the sum has U = sum_i U_i, z = (1 + U) / g and lambda = z^2. Above the spectrum g > 0 is real and z is
/// smallest at the upper edge; in the gap around 0, g is real as well and z is largest at the lower edge.
/// Inside the spectrum g(z + i0) is continued from z + i infinity, where g = 1 / z, down to z. With 1 + U =
/// lambda G(lambda) of the law of M M^T, the density and distribution per one of all d eigenvalues are
///     density(lambda) = -Im U / (pi lambda),
///     1 - F(lambda) = (1 / pi) Im [2 U - 2 ln g - sum_i (U_i - sum_j (U_i - ln(1 + a_j U_i) / a_j))],
/// the latter being the integral of (1 + U) d ln lambda. If the terms' ranks add up to n < d, the law
/// describes the n nonzero eigenvalues.
///
/// An evaluation takes six to seven microseconds. A term of variance zero is left out; if all are zero the
/// law is the point mass at 0. A variance that is not finite gives NaN everywhere. Thread-safe.
class ProductSumLaw {
  public:
    /// Throws (kUsage) if there is no term, a chain does not begin and end with the same d, or a variance is
    /// negative.
    explicit ProductSumLaw(const std::vector<GaussianChain>& terms);

    /// n = min(d, sum of the terms' ranks), the number of nonzero eigenvalues.
    int64_t count() const { return count_; }
    /// d: M is d x d.
    int64_t side() const { return static_cast<int64_t>(d_); }
    /// Variance of an entry of M.
    double entry_variance() const { return entry_variance_; }

    /// 0 if the ranks add up to d or more, or if the law of one term alone reaches down to 0.
    double lower_edge() const { return lower_; }
    double upper_edge() const { return upper_; }
    /// The density of one nonzero eigenvalue, which integrates to 1.
    double density(double lambda) const;
    double cdf(double lambda) const;
    /// Near the upper edge z = z_+ + z''(g_+) (g - g_+)^2 / 2, so the edge's scale in lambda is
    /// 2 z_+ (z'' / (8 d^2))^(1/3).
    SoftEdge soft_edge() const { return {upper_, edge_scale_}; }
    double tracy_widom_quantile(double p) const { return soft_edge().quantile(p); }
    double mean_largest() const { return soft_edge().mean(); }
    /// Points from edge to edge, dense at both. Ascending and finite; empty if the variance is 0 or not
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
    /// The real U of a term at a real h, and h U'(h).
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
    /// Newton's step of a term's U: offset + by_g times the step of g.
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
    double d_, scale_;  ///< scale_: the sum of all K; internally z^2 is divided by it
    int64_t count_;
    double entry_variance_ = 0;
    double lower_ = 0, upper_ = 0, edge_scale_ = 0;
};

}  // namespace pastur
