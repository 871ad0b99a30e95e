// The Tracy-Widom table against F_1 as a Fredholm determinant, by Gauss-Legendre quadrature.
#include "diag/tracy_widom.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/random_matrices.h"

namespace pastur {
namespace {

/// The Airy function by Bessel functions of order 1/3.
double airy(double x) {
    constexpr double kOrder = 1.0 / 3;
    const double z = 2.0 / 3 * std::pow(std::abs(x), 1.5);
    if (z < 1e-12) return 0.3550280538878172 - 0.2588194037928068 * x;
    if (x > 0) return std::sqrt(x / 3) / std::numbers::pi * std::cyl_bessel_k(kOrder, z);
    const double j = std::cyl_bessel_j(kOrder, z), y = std::cyl_neumann(kOrder, z);
    const double minus = std::cos(kOrder * std::numbers::pi) * j - std::sin(kOrder * std::numbers::pi) * y;
    return std::sqrt(-x) / 3 * (j + minus);
}

/// F_1(s) = det(1 - Ai(x + y + s)) on L^2(0, inf) (Ferrari & Spohn 2005).
double tracy_widom_cdf(double s) {
    constexpr size_t n = 40;
    const test::Quadrature rule(n, 0, 12 + std::max(0.0, -s));
    std::vector<double> a(n * n);
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j)
            a[i * n + j] = (i == j ? 1 : 0) - std::sqrt(rule.weights[i] * rule.weights[j]) *
                                                  airy(rule.nodes[i] + rule.nodes[j] + s);
    double determinant = 1;  // the matrix is positive definite, so no pivoting is needed
    for (size_t k = 0; k < n; ++k) {
        determinant *= a[k * n + k];
        for (size_t i = k + 1; i < n; ++i) {
            const double factor = a[i * n + k] / a[k * n + k];
            for (size_t j = k; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
        }
    }
    return determinant;
}

TEST(TracyWidom, QuantilesInvertTheFredholmDeterminant) {
    for (const double p :
         {0.01, 0.05, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9999}) {
        const double s = tracy_widom_quantile(p);
        const double h = 1e-3, density = (tracy_widom_cdf(s + h) - tracy_widom_cdf(s - h)) / (2 * h);
        EXPECT_NEAR((tracy_widom_cdf(s) - p) / density, 0, p < 0.9 ? 1e-4 : 1e-5)
            << "p = " << p << ", s = " << s;
    }
}

TEST(TracyWidom, AgreesWithPublishedPercentiles) {
    // A. Bejan, "Largest eigenvalues and sample covariance matrices" (2005), table 2.
    const std::pair<double, double> published[] = {{0.01, -3.8954}, {0.05, -3.1804}, {0.1, -2.7824},
                                                   {0.3, -1.9104},  {0.5, -1.2686},  {0.7, -0.5923},
                                                   {0.9, 0.4501},   {0.95, 0.9793},  {0.99, 2.0234}};
    for (const auto& [p, s] : published) EXPECT_NEAR(tracy_widom_quantile(p), s, 1e-4) << p;
}

TEST(TracyWidom, HasTheMeanOfItsDistribution) {
    // E s = int (1 - F) over s > 0 - int F over s < 0.
    const test::Quadrature left(40, -9, 0), right(40, 0, 9);
    const double mean = right.integrate([](double s) { return 1 - tracy_widom_cdf(s); }) -
                        left.integrate([](double s) { return tracy_widom_cdf(s); });
    EXPECT_NEAR(mean, kTracyWidomMean, 1e-7);
}

TEST(TracyWidom, RefusesWhatItsTableDoesNotCover) {
    for (const double p : {0.0, 0.009, 0.99995, 1.0, -1.0, std::nan("")})
        test::expect_error(ExitCode::kUsage, {"Tracy-Widom"}, [&] { tracy_widom_quantile(p); });
}

}  // namespace
}  // namespace pastur
