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
    if (variance_product < 0)
        fail(ExitCode::kUsage, "product law: expected a variance of at least 0, got {}", variance_product);
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

// Near the edge x = x_+ + x''(u_+) (u - u_+)^2 / 2, and the density is -Im u / (pi x).
SoftEdge ProductLaw::soft_edge() const {
    const double s = scale(), x = unit_->upper().x;
    const double a = std::sqrt(2 / unit_->upper_curvature()) / x;
    return {s * x, s * std::pow(static_cast<double>(count()) * a, -2.0 / 3)};
}

std::vector<LawPoint> ProductLaw::curve(int points) const {
    PASTUR_CHECK(points >= 2, "a curve of {} points, expected at least 2", points);
    const double s = scale();
    if (!(s > 0)) return {};
    std::vector<LawPoint> result;
    if (lower_edge() > 0) result.push_back({lower_edge(), 0, 0});
    for (int i = 1; i < points; ++i) {
        // Near a diverging lower edge lambda goes like the k-th power of the angle: equal steps would be too
        // long.
        const double t = static_cast<double>(i) / points;
        const double lambda = s * unit_->at_angle(std::numbers::pi * t * t).x;
        result.push_back({lambda, density(lambda), cdf(lambda)});
    }
    result.push_back({upper_edge(), 0, 1});
    return result;
}

}  // namespace pastur
