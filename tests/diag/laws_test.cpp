// The laws against themselves and against closed forms. sampling_test.cpp compares them with sampled
// matrices.
#include <gtest/gtest.h>

#include <functional>

#include "diag/marchenko_pastur.h"
#include "diag/product_law.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_matrices.h"

namespace pastur {
namespace {

using Dims = std::vector<int64_t>;
using test::chain_name;
using test::Quadrature;

/// The law in units in which its mean is 1.
ProductLaw normalised(const Dims& dims) {
    const ProductLaw law(dims, 1);
    return law.rescaled(1 / law.scale());
}

/// Chains with lower edges at zero (of several orders), close to zero and far from it.
const Dims kChains[] = {{768, 768, 768},
                        {768, 64, 768},
                        {64, 768, 64},
                        {768, 32, 768},
                        {768, 768, 384, 768},
                        {768, 192, 32, 768},
                        {300, 768},
                        {768, 767},
                        {64, 64},
                        {64, 65, 64},
                        {48, 48, 48, 48},
                        {768, 32, 768, 192, 768},
                        {5, 1000000, 7},
                        {1, 1},
                        {3, 1, 2}};

/// The integral of f times the density over [quantile(from), quantile(to)].
template <typename Law, typename F>
double integrate(const Law& law, double from, double to, F&& f) {
    return Quadrature(24, test::quantile(law, from), test::quantile(law, to)).integrate([&](double lambda) {
        return f(lambda) * law.density(lambda);
    });
}

/// The integral of f times the density from edge to edge. lambda = lower + y^k makes the integrand smooth at
/// a lower edge where the density goes like y^(1 - k) (diverging) or y (k = 2, a square root); y = top - t^2
/// does so at the upper edge.
double integrate_all(const ProductLaw& law, const std::function<double(double)>& f) {
    const auto ties = std::count(law.dims().begin(), law.dims().end(), law.count());
    const double k = ties > 1 ? static_cast<double>(ties) : 2, lower = law.lower_edge();
    const double top = std::pow(law.upper_edge() - lower, 1 / k);
    const auto by_y = [&](double y) {
        const double lambda = lower + std::pow(y, k);
        return k * std::pow(y, k - 1) * f(lambda) * law.density(lambda);
    };
    double sum = Quadrature(24, 0, std::ldexp(top, -19)).integrate(by_y);
    // An edge close to zero is nearly singular: the pieces halve towards it.
    for (double from = top / 2; from > std::ldexp(top, -19); from /= 2)
        sum += Quadrature(24, from / 2, from).integrate(by_y);
    for (int piece = 0; piece < 4; ++piece) {
        const double step = std::sqrt(top / 2) / 4;
        sum += Quadrature(24, step * piece, step * (piece + 1)).integrate([&](double t) {
            return 2 * t * by_y(top - t * t);
        });
    }
    return sum;
}

TEST(ProductLaw, ReproducesTheTableOfTheSpecification) {
    struct Row {
        Dims dims;
        int64_t count;
        double lower, upper, largest_99, median;        // of the product, in units of its mean
        double naive_edge, false_alarms, their_energy;  // Marchenko-Pastur's edge on the whole matrix
    };
    const Row rows[] = {{{768, 768, 768}, 768, 0, 6.750, 6.93, .318, 4, 47, .31},
                        {{768, 64, 768}, 64, .378, 2.037, 2.13, .931, .333, 64, 1},
                        {{64, 768, 64}, 64, 0, 4.311, 4.70, .616, 4, .4, .03},
                        {{768, 768, 384, 768}, 384, .011, 5.841, 6.08, .463, 2, 68, .58},
                        {{768, 32, 192, 768}, 32, .285, 2.337, 2.54, .898, .167, 32, 1},
                        {{768, 32, 768}, 32, .522, 1.686, 1.78, .965, .167, 32, 1}};
    for (const Row& row : rows) {
        const ProductLaw law = normalised(row.dims);
        SCOPED_TRACE(chain_name(row.dims));
        EXPECT_EQ(law.count(), row.count);
        EXPECT_NEAR(law.lower_edge(), row.lower, 0.0005);
        EXPECT_NEAR(law.upper_edge(), row.upper, 0.0005);
        EXPECT_NEAR(law.tracy_widom_quantile(0.99), row.largest_99, 0.005);
        EXPECT_NEAR(test::quantile(law, 0.5), row.median, 0.0011);  // the table truncates it
        const MarchenkoPastur naive(row.dims.front(), row.dims.back(), law.entry_variance());
        EXPECT_NEAR(naive.upper_edge(), row.naive_edge, 0.0005);
        const double below = law.cdf(naive.upper_edge());
        EXPECT_NEAR(static_cast<double>(law.count()) * (1 - below), row.false_alarms, 0.3);
        EXPECT_NEAR(integrate(law, below, 1, [](double lambda) { return lambda; }), row.their_energy, 0.005);
    }
}

TEST(ProductLaw, KnowsTheEdgesOfSquareChains) {
    // Fuss-Catalan: the upper edge of k square factors is (k + 1)^(k + 1) / k^k.
    for (int k = 1; k <= 6; ++k) {
        const ProductLaw law = normalised(Dims(static_cast<size_t>(k + 1), 100));
        EXPECT_NEAR(law.upper_edge() / (std::pow(k + 1, k + 1) / std::pow(k, k)), 1, 1e-14);
        EXPECT_EQ(law.lower_edge(), 0);
        EXPECT_EQ(law.density(0), std::numeric_limits<double>::infinity());
    }
}

TEST(ProductLaw, HasTheMomentsOfFreeProbability) {
    // Fuss-Catalan numbers binom(3k, k) / (2k + 1) for two square factors: 1, 3, 12, 55.
    const ProductLaw square = normalised({768, 768, 768});
    const double known[] = {1, 1, 3, 12, 55};
    for (int k = 0; k <= 4; ++k)
        EXPECT_NEAR(integrate_all(square, [&](double x) { return std::pow(x, k); }), known[k],
                    1e-8 * known[k])
            << k;
    // Any chain: total 1, mean 1, and second moment 1 + sum_{j != b} c_j.
    for (const Dims& dims : kChains) {
        SCOPED_TRACE(chain_name(dims));
        const ProductLaw law = normalised(dims);
        double second = 0;
        for (int64_t dim : dims) second += static_cast<double>(law.count()) / static_cast<double>(dim);
        EXPECT_NEAR(integrate_all(law, [](double) { return 1; }), 1, 1e-8);
        EXPECT_NEAR(integrate_all(law, [](double x) { return x; }), 1, 1e-8);
        EXPECT_NEAR(integrate_all(law, [](double x) { return x * x; }), second, 1e-8 * second);
    }
}

TEST(ProductLaw, DensityIsTheSlopeOfTheCdf) {
    for (const Dims& dims : kChains) {
        const ProductLaw law = normalised(dims);
        SCOPED_TRACE(chain_name(dims));
        for (int i = 0; i < 100; ++i) {
            // The moments' integrals cover the outermost hundredths with their singular ends.
            if (i > 0 && i < 99) {
                EXPECT_NEAR(integrate(law, i / 100.0, (i + 1) / 100.0, [](double) { return 1; }), 0.01, 1e-8)
                    << "between quantiles " << i << " and " << i + 1 << " %";
            }
            // The five-point difference, whose step shrinks towards the edges so as not to cross them.
            const double lambda = test::quantile(law, (i + 0.5) / 100);
            const double h = 2e-3 * std::min(lambda - law.lower_edge(), law.upper_edge() - lambda);
            const double slope = (8 * (law.cdf(lambda + h) - law.cdf(lambda - h)) -
                                  (law.cdf(lambda + 2 * h) - law.cdf(lambda - 2 * h))) /
                                 (12 * h);
            EXPECT_NEAR(slope / law.density(lambda), 1, 1e-8) << "at quantile " << i + 0.5 << " %";
        }
    }
}

TEST(ProductLaw, CdfReachesFromEdgeToEdge) {
    for (const Dims& dims : kChains) {
        const ProductLaw law = normalised(dims);
        SCOPED_TRACE(chain_name(dims));
        double previous = law.lower_edge();
        for (const double p :
             {1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12}) {
            const double lambda = test::quantile(law, p);
            EXPECT_GT(lambda, previous);
            EXPECT_NEAR(law.cdf(lambda), p, 1e-14);
            previous = lambda;
        }
        EXPECT_LT(previous, law.upper_edge());
        EXPECT_EQ(law.cdf(law.upper_edge() * 1.001), 1);
        EXPECT_EQ(law.cdf(law.lower_edge() * 0.999), 0);
        EXPECT_EQ(law.cdf(-1), 0);
        EXPECT_EQ(law.density(law.upper_edge() * 1.001), 0);
        EXPECT_EQ(law.density(-1), 0);
    }
}

TEST(ProductLaw, FallsTowardsADivergingLowerEdgeAsItsPowerSays) {
    // With k dimensions of N_b the density goes like x^(1/k - 1) and F like x^(1/k), down to the rounding
    // level.
    const std::pair<Dims, double> chains[] = {
        {{9, 9}, 2}, {{9, 9, 9}, 3}, {{9, 30, 9}, 2}, {{9, 9, 9, 9}, 4}};
    for (const auto& [dims, k] : chains) {
        const ProductLaw law = normalised(dims);
        for (double x = 1e-4; x > 1e-15; x *= 1e-2)
            EXPECT_NEAR(law.cdf(x * 1e-2) / law.cdf(x), std::pow(1e-2, 1 / k),
                        0.1 * std::pow(x, 1 / k) + 1e-5)
                << x;
    }
}

TEST(ProductLaw, DoesNotDependOnTheOrderOfItsDimensions) {
    const ProductLaw law = normalised({768, 64, 300}), other = normalised({64, 300, 768});
    for (double p = 0.05; p < 1; p += 0.1)
        EXPECT_NEAR(test::quantile(law, p), test::quantile(other, p), 1e-13);
}

TEST(ProductLaw, ScalesWithTheVariancesOfItsFactors) {
    const ProductLaw law({20, 30, 40}, 0.5);
    EXPECT_DOUBLE_EQ(law.scale(), 0.5 * 30 * 40);
    EXPECT_DOUBLE_EQ(law.entry_variance(), 0.5 * 30);
    EXPECT_DOUBLE_EQ(ProductLaw({20, 30}, 0.5).entry_variance(), 0.5);
    const ProductLaw other = law.rescaled(1e-9);
    for (const double p : {0.1, 0.5, 0.9}) {
        EXPECT_NEAR(test::quantile(law, p) / test::quantile(other, p), 0.5e9, 1);
        EXPECT_NEAR(law.density(test::quantile(law, p)) * 0.5e9 / other.density(test::quantile(other, p)), 1,
                    1e-9);
    }
    EXPECT_NEAR(law.mean_largest() / other.mean_largest(), 0.5e9, 1);
}

TEST(ProductLaw, MarchenkoPasturIsTheChainOfOneFactor) {
    for (const auto& [rows, cols] :
         {std::pair<int64_t, int64_t>{300, 768}, {768, 300}, {50, 50}, {767, 768}, {1, 9}}) {
        SCOPED_TRACE(fmt::format("{} x {}", rows, cols));
        const MarchenkoPastur closed(rows, cols, 0.25);
        const ProductLaw law({rows, cols}, 0.25);
        EXPECT_NEAR(closed.lower_edge(), law.lower_edge(), 1e-13 * law.upper_edge());
        EXPECT_NEAR(closed.upper_edge() / law.upper_edge(), 1, 1e-14);
        EXPECT_NEAR(closed.soft_edge().mean() / law.mean_largest(), 1, 1e-13);
        EXPECT_NEAR(closed.tracy_widom_quantile(0.99) / law.tracy_widom_quantile(0.99), 1, 1e-13);
        for (int i = 1; i < 200; ++i) {
            const double lambda = law.lower_edge() + (law.upper_edge() - law.lower_edge()) * i / 200;
            EXPECT_NEAR(closed.cdf(lambda), law.cdf(lambda), 1e-13);
            EXPECT_NEAR(closed.quantile(i / 200.0) / test::quantile(law, i / 200.0), 1, 1e-12);
        }
    }
}

TEST(ProductLaw, CurvesHoldTheWholeDensity) {
    for (const Dims& dims : kChains) {
        SCOPED_TRACE(chain_name(dims));
        const ProductLaw law(dims, 0.1);
        const std::vector<LawPoint> curve = law.curve(200);
        ASSERT_GE(curve.size(), 200u);
        double area = law.cdf(curve.front().lambda);
        for (size_t i = 1; i < curve.size(); ++i) {
            ASSERT_GT(curve[i].lambda, curve[i - 1].lambda);
            area += (curve[i].density + curve[i - 1].density) / 2 * (curve[i].lambda - curve[i - 1].lambda);
        }
        for (const LawPoint& point : curve) {
            ASSERT_TRUE(std::isfinite(point.density));
            EXPECT_EQ(point.cdf, law.cdf(point.lambda));
        }
        EXPECT_NEAR(area, 1, 0.01);
        EXPECT_EQ(curve.back().lambda, law.upper_edge());
        EXPECT_EQ(curve.back().density, 0);
        EXPECT_LT(curve[1].cdf, 1e-3) << "the first points reach the lower edge";
    }
}

TEST(ProductLaw, IsAPointMassWithoutVarianceAndNanWithoutNumbers) {
    const auto check = [](const auto& zero, const auto& nan) {
        EXPECT_EQ(zero.upper_edge(), 0);
        EXPECT_EQ(zero.tracy_widom_quantile(0.99), 0);
        EXPECT_EQ(zero.cdf(0), 1);
        EXPECT_EQ(zero.cdf(-1e-30), 0);
        EXPECT_EQ(zero.cdf(1e-30), 1);
        for (const double value :
             {nan.lower_edge(), nan.upper_edge(), nan.cdf(1), nan.tracy_widom_quantile(0.99)})
            EXPECT_TRUE(std::isnan(value));
        EXPECT_TRUE(std::isnan(zero.cdf(std::nan(""))));
    };
    check(MarchenkoPastur(4, 5, 0), MarchenkoPastur(4, 5, INFINITY));
    EXPECT_EQ(MarchenkoPastur(4, 5, 0).quantile(0.5), 0);
    EXPECT_TRUE(std::isnan(MarchenkoPastur(4, 5, INFINITY).quantile(0.5)));
    const ProductLaw zero({4, 5, 6}, 0);
    for (const ProductLaw& nan : {ProductLaw({4, 5, 6}, std::nan("")), ProductLaw({4, 4}, INFINITY)}) {
        check(zero, nan);
        EXPECT_TRUE(std::isnan(nan.density(1)));
        EXPECT_TRUE(nan.curve(10).empty());
    }
    EXPECT_EQ(zero.density(1), 0);
    EXPECT_TRUE(zero.curve(10).empty());
}

TEST(ProductLaw, RefusesWhatIsNoChain) {
    for (const Dims& dims : {Dims{}, Dims{5}, Dims{5, 0}, Dims{-1, 5, 5}})
        test::expect_error(ExitCode::kUsage, {"product law"}, [&] { ProductLaw(dims, 1); });
    test::expect_error(ExitCode::kUsage, {"variance"}, [&] { ProductLaw({5, 5}, -1); });
    test::expect_error(ExitCode::kUsage, {"0 x 5"}, [&] { MarchenkoPastur(0, 5, 1); });
    test::expect_error(ExitCode::kUsage, {"-1"}, [&] { MarchenkoPastur(5, 5, -1); });
    for (const double p : {-0.1, 1.1, std::nan("")})
        test::expect_error(ExitCode::kUsage, {"quantile"}, [&] { MarchenkoPastur(5, 5, 1).quantile(p); });
}

}  // namespace
}  // namespace pastur
