// The law of a sum of products: against the law of one product, against sampled sums, and in a model.
#include <gtest/gtest.h>

#include <ctime>

#include "diag/metrics.h"
#include "diag/product_sum_law.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/spectra/calibration.h"
#include "tests/support/expect_error.h"
#include "tests/support/random_matrices.h"

namespace pastur {
namespace {

using Dims = std::vector<int64_t>;
using test::chain_name;
using Chains = std::vector<GaussianChain>;

TEST(ProductSumLaw, OfOneTermIsTheProductLaw) {
    for (const Dims& dims :
         {Dims{768, 64, 768}, Dims{768, 768, 768}, Dims{768, 768, 384, 768}, Dims{768, 32, 384, 768},
          Dims{768, 384, 384, 768}, Dims{300, 300}, Dims{40, 8, 20, 33, 40}, Dims{5, 90, 5}}) {
        SCOPED_TRACE(chain_name(dims));
        const ProductLaw product(dims, 3e-4);
        const ProductSumLaw sum({{dims, 3e-4}});
        EXPECT_EQ(sum.count(), product.count());
        EXPECT_NEAR(sum.entry_variance() / product.entry_variance(), 1, 1e-12);
        EXPECT_NEAR(sum.upper_edge() / product.upper_edge(), 1, 1e-12);
        EXPECT_NEAR(sum.lower_edge(), product.lower_edge(), 1e-10 * product.upper_edge());
        EXPECT_NEAR(sum.soft_edge().scale / product.soft_edge().scale, 1, 1e-10);
        for (double p = 0.005; p < 1; p += 0.015) {
            const double lambda = test::quantile(product, p);
            EXPECT_NEAR(sum.cdf(lambda), p, 1e-8) << lambda;
            EXPECT_NEAR(sum.density(lambda) / product.density(lambda), 1, 1e-7) << lambda;
        }
    }
}

TEST(ProductSumLaw, OfTwoWholeMatricesIsOneOfBothVariances) {
    // The sum of two Gaussian matrices is one.
    const ProductLaw whole({100, 100}, 5);
    const ProductSumLaw sum({{{100, 100}, 2}, {{100, 100}, 3}});
    EXPECT_NEAR(sum.upper_edge(), whole.upper_edge(), 1e-10 * whole.upper_edge());
    for (double p = 0.02; p < 1; p += 0.05) EXPECT_NEAR(sum.cdf(test::quantile(whole, p)), p, 1e-8);
}

TEST(ProductSumLaw, DensityAndDistributionBelongTogether) {
    // A bulk with a gap at 0, one that is split in two, and one that reaches down to 0.
    for (const Chains& chains :
         {Chains{{{96, 8, 24, 96}, 1}, {{96, 8, 96}, 40}}, Chains{{{96, 48, 48, 96}, 1}, {{96, 4, 96}, 900}},
          Chains{{{64, 64, 64}, 1}, {{64, 64}, 10}, {{64, 16, 64}, 2}}}) {
        const ProductSumLaw law(chains);
        const double low = std::sqrt(law.lower_edge()), high = std::sqrt(law.upper_edge());
        double previous = 0;
        for (int i = 1; i <= 12; ++i) {
            const auto lambda = [&](double t) { return std::pow(low + (high - low) * t, 2); };
            const double from = (i - 1) / 12.0, to = i / 12.0, cdf = law.cdf(lambda(to));
            EXPECT_GE(cdf, previous - 1e-12);
            // Not across the edges of the bulk, where the density is not close to a polynomial.
            if (i > 2 && i < 12) {
                constexpr int kPieces = 40;
                double mass = 0;
                for (int piece = 0; piece < kPieces; ++piece)
                    mass += test::Quadrature(8, from + (to - from) * piece / kPieces,
                                             from + (to - from) * (piece + 1) / kPieces)
                                .integrate([&](double t) {
                                    return law.density(lambda(t)) * 2 * (high - low) * std::sqrt(lambda(t));
                                });
                EXPECT_NEAR(mass, cdf - previous, 2e-5) << i;
            }
            previous = cdf;
        }
        EXPECT_EQ(previous, 1);
        LawPoint before{-1, 0, 0};
        double area = 0;
        const std::vector<LawPoint> curve = law.curve(100);
        for (const LawPoint& point : curve) {
            EXPECT_GT(point.lambda, before.lambda);
            EXPECT_GE(point.cdf, before.cdf - 1e-12);
            EXPECT_TRUE(std::isfinite(point.density));
            if (before.lambda >= 0)
                area += (point.density + before.density) / 2 * (point.lambda - before.lambda);
            before = point;
        }
        EXPECT_NEAR(area, 1, 0.01);
        EXPECT_LT(curve.front().cdf, 1e-3);
    }
}

TEST(ProductSumLaw, SampledSumsFollowIt) {
    std::mt19937_64 engine(11);
    struct Case {
        Chains chains;
        int draws;
    };
    // Heads and a layer of mla-decoupled; in the layer 12 heads add up to a rotary part outside the bulk.
    for (const auto& [chains, draws] :
         {Case{{{{256, 32, 128, 256}, 1}, {{256, 32, 256}, 128}}, 30},
          Case{{{{256, 16, 128, 256}, 1}, {{256, 16, 256}, 900}}, 30},
          Case{{{{256, 128, 128, 256}, 1}, {{256, 16, 256}, 12 * 128.0}}, 10}}) {
        const ProductSumLaw law(chains);
        std::vector<double> pool;
        double mean = 0;
        int with_outliers = 0;
        for (int draw = 0; draw < draws; ++draw) {
            test::Matrix sum;
            for (const GaussianChain& chain : chains) {
                const auto factors = test::gaussian_chain(chain.dims, engine);
                test::Matrix product = factors[0];
                for (size_t i = 1; i < factors.size(); ++i) product = test::multiply(product, factors[i]);
                if (sum.values.empty())
                    sum = {product.rows, product.cols, std::vector<double>(product.values.size())};
                for (size_t i = 0; i < sum.values.size(); ++i)
                    sum.values[i] += std::sqrt(chain.variance_product) * product.values[i];
            }
            std::vector<double> spectrum = test::eigenvalues(test::multiply(sum, sum, false, true));
            spectrum.resize(static_cast<size_t>(law.count()));
            mean += spectrum[0] / draws;
            with_outliers += measure(spectrum, product_null(law, 0.99)).outlier_count > 0;
            pool.insert(pool.end(), spectrum.begin(), spectrum.end());
        }
        std::sort(pool.rbegin(), pool.rend());
        Null null = product_null(law, 0.99);
        null.count = std::ssize(pool);
        EXPECT_LE(kolmogorov_smirnov(pool, null), 0.02);
        EXPECT_NEAR(mean / law.mean_largest(), 1, 0.03);  // the outer bulk of the last case holds 16
        EXPECT_LE(with_outliers, 2);
    }
}

/// The nonzero spectrum of X_1 ... X_L + Y_1 ... Y_M = (X_1, Y_1) (X_2 ... X_L; Y_2 ... Y_M).
std::vector<double> sampled_sum(const Chains& chains, std::mt19937_64& engine) {
    const int64_t d = chains[0].dims.front();
    test::Matrix left{d, 0, {}}, right{0, d, {}};
    for (const GaussianChain& chain : chains) {
        const auto factors = test::gaussian_chain(chain.dims, engine);
        test::Matrix rest = factors[1];
        for (size_t i = 2; i < factors.size(); ++i) rest = test::multiply(rest, factors[i]);
        for (double& value : rest.values) value *= std::sqrt(chain.variance_product);
        right.rows += rest.rows;
        right.values.insert(right.values.end(), rest.values.begin(), rest.values.end());
        test::Matrix both{d, left.cols + factors[0].cols, {}};
        for (int64_t row = 0; row < d; ++row)
            for (const test::Matrix& part : {std::cref(left), std::cref(factors[0])})
                both.values.insert(both.values.end(), part.values.begin() + row * part.cols,
                                   part.values.begin() + (row + 1) * part.cols);
        left = std::move(both);
    }
    return test::product_spectrum({left, right});
}

TEST(ProductSumLaw, HasTheLowerEdgeOfSampledHeadsAtEveryStrength) {
    std::mt19937_64 engine(12);
    struct Heads {
        const char* model;
        int64_t d, latent, nope, rope;
    };
    for (const Heads& heads :
         {Heads{"nano", 128, 64, 16, 16}, {"30m", 512, 256, 32, 32}, {"130m", 768, 384, 32, 32}})
        for (const double strength : {0.1, 1.0, 10.0, 30.0, 100.0, 1e3, 1e4}) {
            SCOPED_TRACE(fmt::format("{}, strength {}", heads.model, strength));
            // The rotary part's K is `strength` times the content's.
            const Chains chains = {{{heads.d, heads.nope, heads.latent, heads.d}, 1},
                                   {{heads.d, heads.rope, heads.d},
                                    strength * static_cast<double>(heads.latent * heads.nope) /
                                        static_cast<double>(heads.rope)}};
            const ProductSumLaw law(chains);
            ASSERT_LT(0, law.lower_edge());
            ASSERT_LT(law.lower_edge(), law.upper_edge());
            const int draws = law.count() > 32 ? 6 : 40;
            std::vector<double> pool;
            double smallest = 0;
            for (int draw = 0; draw < draws; ++draw) {
                const std::vector<double> spectrum = sampled_sum(chains, engine);
                ASSERT_EQ(std::ssize(spectrum), law.count());
                smallest += spectrum.back() / draws;
                pool.insert(pool.end(), spectrum.begin(), spectrum.end());
            }
            std::sort(pool.rbegin(), pool.rend());
            Null null = product_null(law, 0.99);
            null.count = std::ssize(pool);
            EXPECT_LE(kolmogorov_smirnov(pool, null), 0.03);
            // At a finite size the smallest of n eigenvalues lies above the edge, by up to a third for n =
            // 32.
            EXPECT_GT(smallest, law.lower_edge());
            EXPECT_LT(smallest, (law.count() > 32 ? 1.2 : 1.4) * law.lower_edge());
        }
}

TEST(ProductSumLaw, TakesVariancesOfEveryKind) {
    const ProductSumLaw point({{{8, 4, 8}, 0}, {{8, 8}, 0}});
    EXPECT_EQ(point.upper_edge(), 0);
    EXPECT_EQ(point.cdf(0), 1);
    EXPECT_TRUE(point.curve(10).empty());
    const ProductSumLaw unknown({{{8, 4, 8}, std::nan("")}, {{8, 8}, 1}});
    EXPECT_TRUE(std::isnan(unknown.upper_edge()) && std::isnan(unknown.cdf(1)) &&
                std::isnan(unknown.density(1)));
    const ProductSumLaw one({{{8, 4, 8}, 0}, {{8, 8}, 2}});
    EXPECT_NEAR(one.upper_edge(), ProductLaw({8, 8}, 2).upper_edge(), 1e-12);
    const auto refuse = [](const Chains& chains, const char* what) {
        test::expect_error(ExitCode::kUsage, {what}, [&] { const ProductSumLaw law(chains); });
    };
    refuse({}, "no terms");
    refuse({{{8, 4, 8}, 1}, {{8, 9}, 1}}, "8.9");
    refuse({{{8, 8}, -1}}, "-1");
}

/// Every scope with a product null, at sizes in the proportions of 130m.
TEST(Calibration, TheProductNullRaisesNoFalseAlarmsInAnyScope) {
    for (const char* attention :
         {"variant = \"mha\"", "variant = \"mla-prerope\"\nk_rank = 24\nv_rank = 24",
          "variant = \"mla-decoupled\"\nkv_rank = 48\nnope_dim = 8\nrope_dim = 8\nv_dim = 16",
          "variant = \"mha-nope\"", "variant = \"mha-shared-rope\"\nnope_dim = 8\nrope_dim = 8\nv_dim = 16",
          "variant = \"mla-rope\"\nkv_rank = 48", "variant = \"mla-nope\"\nkv_rank = 48",
          "variant = \"mtla\"\nkv_rank = 48\nnope_dim = 8\nrope_dim = 8\nv_dim = 16"}) {
        SCOPED_TRACE(attention);
        Config config = parse_config(std::string("[model]\nvocab = 96\nd_model = 96\nlayers = 3\nheads = 6\n"
                                                 "ffn = 256\n[attention]\n") +
                                         attention + "\n",
                                     "small", {});
        config.diagnostics.scopes = variant_of(config).scopes;
        config.diagnostics.scopes.push_back(Scope::kOv);
        Context ctx = make_context(Device::kCpu);
        const auto [lines, missing] = calibrate_nulls(ctx, config, 20);
        ASSERT_EQ(missing.size(), variant_of(config).has_scope(Scope::kContent) ? 1u : 0u);
        for (const std::string& line : missing)
            EXPECT_TRUE(line.starts_with("null product: no law for qk_literal: ")) << line;
        int naive_alarms = 0, products = 0;
        for (const NullCalibration& line : lines) {
            SCOPED_TRACE(fmt::format("{} {} {}", line.matrix, line.per_head, line.null));
            if (line.null == "mp") naive_alarms += line.outliers > 2;
            if (line.null != "product") continue;
            ++products;
            EXPECT_NEAR(line.outliers, 0, 0.1);
            EXPECT_LE(line.most_outliers, 2);
        }
        EXPECT_GE(naive_alarms, 2) << "the naive null does not raise the alarms that this is about";
        // qk of heads and layers, content and rope of split heads, and every weight.
        EXPECT_GE(products, variant_of(config).has_scope(Scope::kContent) ? 14 : 12);
    }
}

// Laws that reach down to 0 are singular there: U of a term approaches its pole, where residuals are large however good
// the solution is.
TEST(ProductSumLaw, IsFastAndMonotoneCloseToZero) {
    const std::clock_t begin = std::clock();
    for (const Chains& chains :
         {Chains{{{16, 4, 4, 16}, 1}, {{16, 4, 16}, 0.3}}, Chains{{{16, 8, 8, 16}, 1}, {{16, 4, 16}, 10}},
          Chains{{{768, 384, 384, 768}, 1}, {{768, 32, 768}, 100}}}) {
        const ProductSumLaw law(chains);
        ASSERT_EQ(law.lower_edge(), 0);
        double before = 0;
        for (int i = 30; i >= 0; --i) {
            const double at = law.cdf(std::pow(10, -i / 2.0) * law.upper_edge());
            EXPECT_GE(at, before) << i;
            before = at;
        }
    }
    // 0.5 ms; three seconds where Newton's method waits for residuals.
    EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 0.3);
}

}  // namespace
}  // namespace pastur
