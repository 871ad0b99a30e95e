#include "diag/product_sum_law.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/base/error.h"

namespace pastur {
namespace {

using Complex = std::complex<double>;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr int kBisections = 200;

// std::abs and operator/ guard against overflow and underflow, which would take half of an evaluation; here
// every number is in units of the spectrum.
double modulus(Complex x) {
    return std::sqrt(std::norm(x));
}
Complex quotient(Complex x, Complex y) {
    return x * std::conj(y) / std::norm(y);
}

/// h of a chain as a function of its U: U / (K prod (1 + a_j U)).
double h_of(double strength, const std::vector<double>& ratios, double u) {
    double h = u / strength;
    for (const double a : ratios) h /= 1 + a * u;
    return h;
}

/// d ln h / d ln U = 1 - sum a_j U / (1 + a_j U).
double growth(const std::vector<double>& ratios, double u) {
    double result = 1;
    for (const double a : ratios) result -= a * u / (1 + a * u);
    return result;
}

/// The point between `from` and `to` where `f` changes its sign.
template <typename F>
double bisect(double from, double to, F&& f) {
    const bool sign = f(from) > 0;
    for (int i = 0; i < kBisections; ++i) {
        const double middle = from + (to - from) / 2;
        if (middle == from || middle == to) break;
        ((f(middle) > 0) == sign ? from : to) = middle;
    }
    return from + (to - from) / 2;
}

/// Beyond any U or h that matters, in units in which the strengths add up to 1.
constexpr double kFar = 1e9;
/// The closest approach to a pole of h, relative to the pole.
constexpr double kLeastExcess = 1e-290;

/// The pole of h at which the branch below the spectrum begins.
double pole_of(const std::vector<double>& ratios) {
    return -1 / ratios.front();
}

/// h at U = pole (1 + excess). The factor that vanishes at the pole is exactly -excess, so h keeps its
/// relative accuracy however close to the pole.
double h_below_pole(double strength, const std::vector<double>& ratios, double excess) {
    double h = (1 + excess) / (ratios.front() * strength * excess);
    for (size_t j = 1; j < ratios.size(); ++j) {
        const double ratio = ratios[j] / ratios.front();
        h /= (1 - ratio) - ratio * excess;
    }
    return h;
}

/// d ln h / d ln U at that U.
double growth_below_pole(const std::vector<double>& ratios, double excess) {
    double result = -1 / excess;
    for (size_t j = 1; j < ratios.size(); ++j) {
        const double ratio = ratios[j] / ratios.front();
        result += ratio * (1 + excess) / ((1 - ratio) - ratio * excess);
    }
    return result;
}

/// The end of the branch that leads up from U = 0: where h stops growing; kFar if it never does.
double end_above(const std::vector<double>& ratios) {
    return ratios.size() < 2 ? kFar : bisect(0.0, kFar, [&](double u) { return growth(ratios, u); });
}

/// The excess at which the branch that leads down from the pole ends: where h stops falling, which is before
/// the next pole; kFar if it never does. The two largest ratios differ.
double end_below(const std::vector<double>& ratios) {
    if (ratios.size() < 2) return kFar;
    const double next_pole = ratios[0] / ratios[1] - 1;
    return bisect(0.0, next_pole, [&](double excess) { return growth_below_pole(ratios, excess); });
}

}  // namespace

Complex ProductSumLaw::Point::sum() const {
    Complex total = 0;
    for (const Complex& term : u) total += term;
    return total;
}

ProductSumLaw::ProductSumLaw(const std::vector<GaussianChain>& terms) : d_(0), scale_(0), count_(0) {
    if (terms.empty()) fail(ExitCode::kUsage, "sum law: expected at least one term, got no terms");
    const int64_t d = terms[0].dims.empty() ? 0 : terms[0].dims.front();
    d_ = static_cast<double>(d);
    for (const GaussianChain& chain : terms) {
        const auto& dims = chain.dims;
        if (dims.size() < 2 || dims.front() != d || dims.back() != d ||
            *std::min_element(dims.begin(), dims.end()) < 1)
            fail(ExitCode::kUsage, "sum law: expected chains from {} to {}, got {}", d, d,
                 fmt::join(dims, "."));
        if (chain.variance_product < 0)
            fail(ExitCode::kUsage, "sum law: expected a variance of at least 0, got {}",
                 chain.variance_product);
        const int64_t rank = *std::min_element(dims.begin(), dims.end());
        Term term{chain.variance_product, {}, rank};
        for (size_t j = 1; j < dims.size(); ++j) {
            term.strength *= static_cast<double>(dims[j]);
            if (j + 1 < dims.size()) term.ratios.push_back(d_ / static_cast<double>(dims[j]));
        }
        std::sort(term.ratios.rbegin(), term.ratios.rend());
        count_ += rank;
        scale_ += term.strength;
        entry_variance_ += term.strength / d_;
        if (term.strength != 0) terms_.push_back(std::move(term));
    }
    count_ = std::min(count_, d);
    if (!std::isfinite(scale_)) scale_ = entry_variance_ = kNaN;
    if (trivial()) {
        lower_ = upper_ = edge_scale_ = scale_;  // 0 or NaN
        return;
    }
    for (Term& term : terms_) {
        term.strength /= scale_;
        term.last_above = end_above(term.ratios);
    }
    find_upper_edge();
    find_lower_edge();
}

/// Above the spectrum U grows from 0 with h. Below it h falls from infinity while U falls from its pole.
ProductSumLaw::RealTerm ProductSumLaw::real_term(const Term& term, double h, Branch branch) const {
    if (branch == Branch::kAboveSpectrum) {
        const double u =
            bisect(0.0, term.last_above, [&](double at) { return h_of(term.strength, term.ratios, at) - h; });
        return {u, u / growth(term.ratios, u)};
    }
    const double excess =
        std::exp(bisect(std::log(kLeastExcess), std::log(term.last_below), [&](double log_excess) {
            return h_below_pole(term.strength, term.ratios, std::exp(log_excess)) - h;
        }));
    const double u = pole_of(term.ratios) * (1 + excess);
    return {u, u / growth_below_pole(term.ratios, excess)};
}

/// h dz/dg = 2 h U'(h) - 1 - U.
double ProductSumLaw::slope(double h, Branch branch) const {
    double result = -1;
    for (const Term& term : terms_) {
        const RealTerm at = real_term(term, h, branch);
        result += 2 * at.h_slope - at.u;
    }
    return result;
}

/// d slope / dh above the spectrum.
double ProductSumLaw::slope_change(double h) const {
    double result = 0;
    for (const Term& term : terms_) {
        const RealTerm at = real_term(term, h, Branch::kAboveSpectrum);
        const double grows = at.u / at.h_slope;
        double bend = 0;
        for (const double a : term.ratios) bend += a / ((1 + a * at.u) * (1 + a * at.u));
        result += (2 * (1 / grows + at.u * bend / (grows * grows)) - 1) * at.h_slope / h;
    }
    return result;
}

double ProductSumLaw::z_at(double h, Branch branch) const {
    double u = 0;
    for (const Term& term : terms_) u += real_term(term, h, branch).u;
    return (1 + u) / std::sqrt(h);
}

void ProductSumLaw::find_upper_edge() {
    // The first branch to end, ends where its U' is infinite: slope() is positive there.
    double last = kFar;
    for (const Term& term : terms_)
        if (!term.ratios.empty()) last = std::min(last, h_of(term.strength, term.ratios, term.last_above));
    const double h = bisect(0.0, last, [&](double at) { return slope(at, Branch::kAboveSpectrum); });
    const double z = z_at(h, Branch::kAboveSpectrum);
    const double curvature = 2 / std::sqrt(h) * slope_change(h);  // d^2 z / dg^2
    upper_ = scale_ * z * z;
    edge_scale_ = scale_ * 2 * z * std::cbrt(curvature / (8 * d_ * d_));
}

void ProductSumLaw::find_lower_edge() {
    int64_t ranks = 0;
    double first = 0;  // the least h of the branch: where the first term's branch ends
    for (Term& term : terms_) {
        ranks += term.rank;
        const std::vector<double>& ratios = term.ratios;
        // The law of a square term, or of one whose two narrowest dimensions are equal, reaches down to 0.
        if (ratios.empty() || ratios[0] <= 1 || (ratios.size() > 1 && ratios[0] == ratios[1])) return;
        term.last_below = end_below(ratios);
        first = std::max(first, h_below_pole(term.strength, ratios, term.last_below));
    }
    if (static_cast<double>(ranks) >= d_) return;
    // z rises towards the spectrum as h falls from infinity, up to the edge. slope() is ranks / d - 1 at
    // infinity and plus infinity at `first`.
    const auto slope_at = [&](double log_h) { return slope(std::exp(log_h), Branch::kBelowSpectrum); };
    const double begin = std::log(first) + 1e-12;
    double width = 1;
    while (slope_at(begin + width) > 0) width *= 2;
    const double h = std::exp(bisect(begin + width, begin, slope_at));
    const double z = z_at(h, Branch::kBelowSpectrum);
    lower_ = scale_ * z * z;
}

/// Newton's method from the solution at a nearby z to the one at this z. False if it does not converge.
bool ProductSumLaw::newton(Point& point, Complex z, Steps& steps) const {
    for (int step = 0; step < 12; ++step) {
        const Complex h = point.g * point.g;
        Complex residual = z * point.g - 1.0 - point.sum(), slope_g = z, shift = 0;
        double size = 0;  // of the step of the terms' U, relative to them
        for (size_t i = 0; i < terms_.size(); ++i) {
            Complex product = terms_[i].strength, log_slope = 0;
            for (const double a : terms_[i].ratios) {
                product *= 1.0 + a * point.u[i];
                log_slope += quotient(a, 1.0 + a * point.u[i]);
            }
            const Complex wrong = point.u[i] - h * product, own = 1.0 - h * product * log_slope;
            steps[i] = {quotient(-wrong, own), quotient(2.0 * point.g * product, own)};
            shift += steps[i].offset;
            slope_g -= steps[i].by_g;
        }
        const Complex move = quotient(shift - residual, slope_g);
        point.g += move;
        for (size_t i = 0; i < terms_.size(); ++i) {
            const Complex change = steps[i].offset + steps[i].by_g * move;
            point.u[i] += change;
            size = std::max(size, modulus(change) / modulus(point.u[i]));
        }
        if (!std::isfinite(modulus(point.g))) return false;
        // Convergence is quadratic: the remaining error is about this one squared, or rounding. Residuals say less:
        // close to a pole they are the rounding of U times h, which grows without bound towards lambda = 0.
        if (size < 1e-9 && modulus(move) < 1e-9 * modulus(point.g)) return true;
    }
    return false;
}

/// The change of Point::angles in a short step.
double ProductSumLaw::turn(const Point& from, const Point& to) const {
    double angles = 0;
    for (size_t i = 0; i < terms_.size(); ++i)
        for (const double a : terms_[i].ratios)
            angles += std::arg((1.0 + a * to.u[i]) / (1.0 + a * from.u[i])) / a;
    return angles;
}

ProductSumLaw::Point ProductSumLaw::at(double lambda) const {
    const double z = std::sqrt(lambda / scale_);
    // At a hundred times the size of the spectrum g = 1 / z is a good first guess.
    double height = 100 * std::sqrt(upper_ / scale_), ratio = 0.5;
    Point point{1.0 / Complex(z, height), std::vector<Complex>(terms_.size())};
    for (size_t i = 0; i < terms_.size(); ++i) point.u[i] = point.g * point.g * terms_[i].strength;
    Steps steps(terms_.size());
    newton(point, {z, height}, steps);
    point.angles = turn({0, std::vector<Complex>(terms_.size())}, point);
    bool settles = false;  // g hardly changed in the last step, so the next one goes all the way
    Point moved = point;
    while (height > 0) {
        const double next = settles || height < 1e-11 * z ? 0 : height * ratio;
        moved = point;
        const bool found = newton(moved, {z, next}, steps) && moved.g.imag() <= 1e-12 * modulus(moved.g);
        const double change = modulus(moved.g - point.g) / modulus(point.g);
        if ((found && change < (settles ? 0.05 : 0.7)) || (!settles && ratio > 0.999)) {
            moved.angles += turn(point, moved);
            std::swap(point, moved);
            height = next;
            ratio = std::max(0.5, ratio * ratio);
            settles = change < 0.02;
        } else if (settles) {
            settles = false;
        } else {
            ratio = std::sqrt(ratio);  // a shorter step
        }
    }
    return point;
}

double ProductSumLaw::density(double lambda) const {
    if (std::isnan(scale_) || std::isnan(lambda)) return kNaN;
    if (!(lambda > lower_ && lambda < upper_)) return 0;
    const double per_d = std::max(0.0, -at(lambda).sum().imag()) / (std::numbers::pi * lambda);
    return per_d * d_ / static_cast<double>(count_);
}

double ProductSumLaw::cdf(double lambda) const {
    if (std::isnan(scale_) || std::isnan(lambda)) return kNaN;
    if (lambda >= upper_) return 1;
    if (lambda <= lower_) return 0;
    const Point point = at(lambda);
    double integral = 2 * (point.sum().imag() - std::arg(point.g)) - point.angles;
    for (size_t i = 0; i < terms_.size(); ++i)
        integral += (static_cast<double>(terms_[i].ratios.size()) - 1) * point.u[i].imag();
    const double above = integral / std::numbers::pi * d_ / static_cast<double>(count_);
    return std::clamp(1 - above, 0.0, 1.0);
}

std::vector<LawPoint> ProductSumLaw::curve(int points) const {
    PASTUR_CHECK(points >= 2, "a curve of {} points, expected at least 2", points);
    if (trivial()) return {};
    std::vector<LawPoint> result;
    if (lower_ > 0) result.push_back({lower_, 0, 0});
    const double low = std::sqrt(lower_), high = std::sqrt(upper_);
    for (int i = 1; i < points; ++i) {
        // The steps are in z = sqrt(lambda) and shrink towards both ends, more so towards a lower edge of 0,
        // where the density may diverge.
        const double t = (1 - std::cos(std::numbers::pi * i / points)) / 2;
        const double lambda = std::pow(low + (high - low) * (lower_ > 0 ? t : t * t), 2);
        result.push_back({lambda, density(lambda), cdf(lambda)});
    }
    result.push_back({upper_, 0, 1});
    return result;
}

}  // namespace pastur
