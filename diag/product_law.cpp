#include "diag/product_law.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "diag/product_law_unit.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

ProductLaw::ProductLaw(std::vector<int64_t> dims, double variance_product)
    : ProductLaw(std::make_shared<const Unit>(std::move(dims)), variance_product) {}

ProductLaw::ProductLaw(std::shared_ptr<const Unit> unit, double variance_product)
    : unit_(std::move(unit)), variance_product_(std::isfinite(variance_product) ? variance_product : kNaN) {
    if (variance_product < 0) fail(ExitCode::kUsage, "product law with a variance of {}", variance_product);
}

ProductLaw ProductLaw::rescaled(double variance_product) const {
    return ProductLaw(unit_, variance_product);
}

const std::vector<int64_t>& ProductLaw::dims() const {
    return unit_->dims();
}

double ProductLaw::entry_variance() const {
    double product = variance_product_;
    for (size_t i = 1; i + 1 < dims().size(); ++i) product *= static_cast<double>(dims()[i]);
    return product;
}

int64_t ProductLaw::count() const {
    return *std::min_element(dims().begin(), dims().end());
}

double ProductLaw::scale() const {
    double product = variance_product_ / static_cast<double>(count());
    for (int64_t dim : dims()) product *= static_cast<double>(dim);
    return product;
}

double ProductLaw::lower_edge() const {
    return scale() * unit_->lower().x;
}
double ProductLaw::upper_edge() const {
    return scale() * unit_->upper().x;
}

double ProductLaw::density(double lambda) const {
    const double s = scale();
    if (std::isnan(s) || std::isnan(lambda)) return kNaN;
    if (lambda == 0 && lower_edge() == 0) return kInfinity;
    const double x = lambda / s;
    if (!(x > unit_->lower().x && x < unit_->upper().x)) return 0;
    return unit_->at_x(x).density() / s;
}

double ProductLaw::cdf(double lambda) const {
    const double s = scale();
    if (std::isnan(s) || std::isnan(lambda)) return kNaN;
    if (lambda >= upper_edge()) return 1;
    if (lambda <= lower_edge()) return 0;
    return unit_->at_x(lambda / s).cdf;
}

double ProductLaw::quantile(double p) const {
    if (!(p >= 0 && p <= 1)) fail(ExitCode::kUsage, "quantile {} of a product law", p);
    if (p == 0) return lower_edge();
    if (p == 1) return upper_edge();
    return scale() * unit_->at_cdf(p).x;
}

// Around the edge x = x_+ + x''(u_+) (u - u_+)^2 / 2, and the density is -Im u / (pi x).
SoftEdge ProductLaw::soft_edge() const {
    const double s = scale(), x = unit_->upper().x;
    const double a = std::sqrt(2 / unit_->upper_curvature()) / x;
    return {s * x, s * std::pow(static_cast<double>(count()) * a, -2.0 / 3)};
}

double ProductLaw::spike_threshold() const {
    return scale() * unit_->spike(unit_->upper().rho);
}

double ProductLaw::spike_eigenvalue(double theta_squared) const {
    const double s = scale();
    if (std::isnan(s) || std::isnan(theta_squared)) return kNaN;
    if (!(theta_squared > spike_threshold())) return upper_edge();
    if (s == 0) return theta_squared;
    // theta^2 falls as u rises to u_+; far above threshold u is about s / theta^2.
    double lo = 0, hi = unit_->upper().rho;
    for (double middle = hi / 2; middle > lo && middle < hi; middle = lo + (hi - lo) / 2)
        (s * unit_->spike(middle) > theta_squared ? lo : hi) = middle;
    return theta_squared * unit_->spike_shift(hi);
}

std::vector<DensityPoint> ProductLaw::curve(int points) const {
    PASTUR_CHECK(points >= 2, "{} points of a density", points);
    const double s = scale();
    if (!(s > 0)) return {};
    std::vector<DensityPoint> result;
    if (lower_edge() > 0) result.push_back({lower_edge(), 0});
    for (int i = 1; i < points; ++i) {
        // Near a diverging lower edge lambda goes like the k-th power of the angle: equal steps would be too
        // long there.
        const double t = static_cast<double>(i) / points;
        const auto point = unit_->at_angle(std::numbers::pi * t * t);
        result.push_back({s * point.x, point.density() / s});
    }
    result.push_back({upper_edge(), 0});
    return result;
}

}  // namespace pastur
