#include "diag/product_law_unit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "kernels/base/error.h"

namespace pastur {
namespace {

using std::numbers::pi;
constexpr int kCells = 256;  ///< of the table of first guesses; more cells save iterations, not accuracy

/// delta with its sine and cosine. Beyond pi / 2 they are computed from phi = pi - delta, which is then the
/// small angle: near the upper edge every result has phi's relative error.
struct Angle {
    explicit Angle(double delta) : phi(pi - delta) {
        const double small = delta < pi / 2 ? delta : phi;
        sine = std::sin(small);
        cosine = delta < pi / 2 ? std::cos(small) : -std::cos(small);
    }
    double phi, sine, cosine;
};

/// The root of f, which rises through zero between lo and hi, to the last bit.
template <typename F>
double bisect(double lo, double hi, F&& f) {
    for (double middle = lo + (hi - lo) / 2; middle > lo && middle < hi; middle = lo + (hi - lo) / 2)
        (f(middle) < 0 ? lo : hi) = middle;
    return hi;
}

}  // namespace

/// -Im u / (pi x).
double ProductLaw::Unit::Point::density() const {
    return rho * Angle(delta).sine / (pi * x);
}
ProductLaw::Unit::Unit(std::vector<int64_t> dims) : dims_(std::move(dims)) {
    if (dims_.size() < 2 || *std::min_element(dims_.begin(), dims_.end()) < 1)
        fail(ExitCode::kUsage, "product law: expected two or more dimensions of at least 1, got \"{}\"",
             fmt::join(dims_, " x "));
    const int64_t smallest = *std::min_element(dims_.begin(), dims_.end());
    for (int64_t dim : dims_) ratios_.push_back(static_cast<double>(smallest) / static_cast<double>(dim));
    tied_ = static_cast<int>(std::count(dims_.begin(), dims_.end(), smallest));
    table_.push_back(lower_edge());
    for (int i = 1; i < kCells; ++i) table_.push_back(point(pi * i / kCells, table_.back().rho));
    table_.push_back(upper_edge());
}

/// For u > 0 ln x is convex in ln u, so its slope sum_j c_j u / (1 + c_j u) - 1, which includes c_b = 1, has
/// one root: u_+.
ProductLaw::Unit::Point ProductLaw::Unit::upper_edge() const {
    const auto slope = [&](double log_u) {
        double sum = -1;
        for (double c : ratios_) sum += 1 / (1 + std::exp(-log_u) / c);
        return sum;
    };
    // At u = 1 the term of c = 1 is 1/2; at u = 1 / c the term of the least ratio c adds the other 1/2.
    const double least = *std::min_element(ratios_.begin(), ratios_.end());
    const double u =
        std::exp(bisect(-std::log(static_cast<double>(ratios_.size())) - 1, 1 - std::log(least), slope));
    double x = 1 / u;
    for (double c : ratios_) x *= 1 + c * u;
    return {pi, u, x, 1, 0, 0};
}

/// With a single smallest dimension u_- lies between -1 / (the largest other c) and -1, where ln x is
/// concave. With ties x is 0 at u = -1.
ProductLaw::Unit::Point ProductLaw::Unit::lower_edge() const {
    if (tied_ > 1) return {0, 1, 0, 0, 0, 0};
    double largest = 0;
    for (double c : ratios_)
        if (c < 1) largest = std::max(largest, c);
    const auto slope = [&](double excess) {  // at u = -1 - excess
        double sum = -1 / excess + 1 / (1 + excess);
        for (double c : ratios_)
            if (c < 1) sum += c / ((1 - c) - c * excess);
        return sum;
    };
    const double excess = bisect(0, (1 - largest) / largest, slope);
    double x = excess / (1 + excess);
    for (double c : ratios_)
        if (c < 1) x *= (1 - c) - c * excess;
    return {0, 1 + excess, x, 0, 0, 0};
}

double ProductLaw::Unit::upper_curvature() const {
    const double u = upper().rho;
    double second = 1 / (u * u);  // (ln x)'', which is x'' / x where x' = 0
    for (double c : ratios_) second -= c * c / ((1 + c * u) * (1 + c * u));
    return upper().x * second;
}

/// The rho at which sum_j atan2(c_j rho sin delta, 1 - c_j rho cos delta), which includes c_b = 1 and rises
/// with rho from 0 to more than phi, equals phi. Newton's method in ln rho within a bracket.
double ProductLaw::Unit::rho_at(double delta, double guess) const {
    const Angle angle(delta);
    double lo = 0, hi = std::numeric_limits<double>::infinity(), rho = guess;
    for (int i = 0; i < 200; ++i) {
        double sum = -angle.phi, slope = 0;
        for (double c : ratios_) {
            const double re = 1 - c * rho * angle.cosine, im = c * rho * angle.sine;
            sum += std::atan2(im, re);
            slope += im / (re * re + im * im);  // d/d ln rho
        }
        (sum < 0 ? lo : hi) = rho;
        const double step = -sum / slope;
        // The next step would be about this one squared, divided by the width of the steepest term.
        if (std::abs(step) <= 1e-9 * angle.sine) return rho + rho * step;
        rho *= std::exp(std::clamp(step, -2.0, 2.0));
        if (!(rho > lo && rho < hi)) rho = lo + (std::min(hi, 4 * lo + 1) - lo) / 2;
    }
    return rho;
}

/// With W = d ln x / d ln u = sum_j c_j u / (1 + c_j u) - 1 and real x,
///     d ln x / d delta = -|W|^2 / Im W,   d ln rho / d delta = -Re W / Im W.
ProductLaw::Unit::Point ProductLaw::Unit::point(double delta, double rho_guess) const {
    const Angle angle(delta);
    const double rho = rho_at(delta, rho_guess);
    double x = 1 / rho, sum = delta, re_w = -1, im_w = 0;
    bool smallest = true;  // the first c = 1 is that of N_b
    for (double c : ratios_) {
        const double re = 1 - c * rho * angle.cosine, im = c * rho * angle.sine;
        const double squared = re * re + im * im;
        x *= std::sqrt(squared);
        re_w += 1 - re / squared;
        im_w -= im / squared;
        if (c == 1 && std::exchange(smallest, false)) continue;
        sum += rho * angle.sine - (c == 1 ? 0 : (1 - c) / c * std::atan2(im, re));
    }
    const double cdf = std::clamp(sum / pi, 0.0, 1.0);
    return {delta, rho, x, cdf, -(re_w * re_w + im_w * im_w) / im_w, -re_w / im_w};
}

ProductLaw::Unit::Point ProductLaw::Unit::at_angle(double delta) const {
    return point(delta, table_[static_cast<size_t>(delta / pi * kCells)].rho);
}

ProductLaw::Unit::Point ProductLaw::Unit::at_x(double x) const {
    const auto above = std::upper_bound(table_.begin() + 1, table_.end() - 1, x,
                                        [](double v, const Point& p) { return v < p.x; });
    const size_t cell = static_cast<size_t>(above - table_.begin()) - 1;
    const double h = pi / kCells, from = table_[cell].x, to = table_[cell + 1].x;
    double lo = h * static_cast<double>(cell), hi = h * static_cast<double>(cell + 1);
    // x is smooth in cos delta at an edge where the density vanishes like a square root, and like delta^k at
    // a lower edge where it diverges.
    double delta;
    if (cell == 0 && tied_ > 1)
        delta = h * std::pow(x / to, 1.0 / tied_);
    else
        delta = std::acos(
            std::clamp(std::cos(lo) + (std::cos(hi) - std::cos(lo)) * (x - from) / (to - from), -1.0, 1.0));
    // acos can round to an end of the cell.
    delta = std::clamp(delta, 1e-300, pi * (1 - 1e-15));

    // Newton's method on ln x(delta), which rises with delta; a step that leaves the bracket becomes a
    // bisection.
    Point here = point(delta, table_[cell].rho);
    for (int i = 0; i < 100; ++i) {
        const double error = std::log(here.x / x);
        (error < 0 ? lo : hi) = here.delta;
        double step = -error / here.log_x_slope;
        // The next step would be about this one squared, divided by the distance to the edge.
        const bool last = std::abs(step) <= 1e-8 * std::min(here.delta, pi - here.delta);
        if (!last && !(here.delta + step > lo && here.delta + step < hi))
            step = lo + (hi - lo) / 2 - here.delta;
        here =
            point(here.delta + step, here.rho * std::exp(std::clamp(here.log_rho_slope * step, -1.0, 1.0)));
        if (last) break;
    }
    return here;
}

}  // namespace pastur
