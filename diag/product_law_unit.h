#pragma once
// Inside ProductLaw: the law of x, whose mean is 1. See product_law.h for the equations.
#include <complex>
#include <cstdint>
#include <vector>

#include "diag/product_law.h"

namespace pastur {

/// The spectrum's points are numbered by delta = pi - phi, which rises with x: u = -rho e^{i delta}, delta =
/// 0 at the lower edge and pi at the upper.
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
    /// The edges; rho is |u| there, and the slopes are zero or (at a diverging lower edge) not meant to be
    /// read.
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
    int tied_ = 0;                ///< dimensions equal to N_b
    std::vector<Point> table_;    ///< at equal steps of delta, edges included
};

}  // namespace pastur
