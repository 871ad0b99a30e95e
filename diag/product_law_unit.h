#pragma once
// The law of x within ProductLaw, whose mean is 1. product_law.h has the equations.
#include <complex>
#include <cstdint>
#include <vector>

#include "diag/product_law.h"

namespace pastur {

/// The spectrum is parametrised by delta = pi - phi, which rises with x from 0 at the lower edge to pi at the
/// upper one; u = -rho e^{i delta}.
class ProductLaw::Unit {
  public:
    struct Point {
        double delta;
        double rho;
        double x;
        double cdf;
        double log_x_slope;    ///< d ln x / d delta
        double log_rho_slope;  ///< d ln rho / d delta

        double density() const;
    };

    explicit Unit(std::vector<int64_t> dims);

    const std::vector<int64_t>& dims() const { return dims_; }
    /// The edges. rho is |u| there; the slopes have no meaning.
    const Point& lower() const { return table_.front(); }
    const Point& upper() const { return table_.back(); }
    /// x''(u_+).
    double upper_curvature() const;

    /// 0 < delta < pi.
    Point at_angle(double delta) const;
    /// lower < x < upper.
    Point at_x(double x) const;

  private:
    double rho_at(double delta, double guess) const;
    Point point(double delta, double rho_guess) const;
    Point lower_edge() const;
    Point upper_edge() const;

    std::vector<int64_t> dims_;
    std::vector<double> ratios_;  ///< c_j of every dimension, 1 for N_b
    int tied_ = 0;                ///< number of dimensions equal to N_b
    std::vector<Point> table_;    ///< at equal steps of delta, including the edges
};

}  // namespace pastur
