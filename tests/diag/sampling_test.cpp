// The laws against sampled matrices: distances, largest eigenvalues, false alarms.
#include <gtest/gtest.h>

#include "diag/metrics.h"
#include "tests/support/random_matrices.h"

namespace pastur {
namespace {

using Dims = std::vector<int64_t>;
using test::chain_name;
using test::eigenvalues;
using test::gaussian;
using test::gaussian_chain;
using test::multiply;
using test::product_spectrum;

/// The Kolmogorov-Smirnov distance of the eigenvalues of all draws together.
double pooled_distance(const Dims& dims, int draws, std::mt19937_64& engine) {
    std::vector<double> pool;
    for (int draw = 0; draw < draws; ++draw) {
        const std::vector<double> spectrum = product_spectrum(gaussian_chain(dims, engine));
        pool.insert(pool.end(), spectrum.begin(), spectrum.end());
    }
    std::sort(pool.rbegin(), pool.rend());
    Null null = product_null(ProductLaw(dims, 1), 0.99);
    null.count = std::ssize(pool);
    return kolmogorov_smirnov(pool, null);
}

TEST(LawSampling, SpectraFollowTheProductLaw) {
    std::mt19937_64 engine(1);
    // The distance of one spectrum of n eigenvalues is a few 1 / n. For small n draws are pooled until the
    // distance is that between the law and a finite n (.007 at n = 32).
    const std::pair<Dims, int> chains[] = {
        {{768, 768, 768}, 1}, {{768, 64, 768}, 64}, {{768, 32, 768}, 128}, {{768, 768, 384, 768}, 1}};
    for (const auto& [dims, draws] : chains) {
        const double distance = pooled_distance(dims, draws, engine);
        RecordProperty("ks_" + chain_name(dims), fmt::format("{:.4f}", distance));
        EXPECT_LE(distance, 0.013) << chain_name(dims);
    }
    // The bound can fail: a neighbouring law is farther away.
    const ProductLaw law({768, 64, 768}, 1), near({768, 70, 768}, 64.0 / 70);
    double apart = 0;
    for (double p = 0.01; p < 1; p += 0.01)
        apart = std::max(apart, std::abs(near.cdf(test::quantile(law, p)) - p));
    EXPECT_GT(apart, 0.013);
}

TEST(LawSampling, TheLargestEigenvalueIsTracyWidoms) {
    std::mt19937_64 engine(2);
    const Dims dims = {768, 64, 768};
    const ProductLaw law(dims, 1);
    constexpr int kDraws = 300;
    double mean = 0;
    int beyond_90 = 0, beyond_99 = 0;
    for (int draw = 0; draw < kDraws; ++draw) {
        const double largest = product_spectrum(gaussian_chain(dims, engine))[0];
        mean += largest / kDraws;
        beyond_90 += largest > law.tracy_widom_quantile(0.9);
        beyond_99 += largest > law.tracy_widom_quantile(0.99);
    }
    RecordProperty("mean_over_theory", fmt::format("{:.4f}", mean / law.mean_largest()));
    EXPECT_NEAR(mean / law.mean_largest(), 1, 0.01);
    EXPECT_LT(mean, 0.99 * law.upper_edge()) << "the finite size shows: the edge itself would not do";
    EXPECT_NEAR(beyond_90, 0.1 * kDraws, 16);  // three standard deviations
    EXPECT_LE(beyond_99, 9);
}

/// Mean and count of outliers over draws of a chain.
struct FalseAlarms {
    double mean = 0;
    double draws_with_any = 0;  ///< fraction
};

FalseAlarms false_alarms(const Dims& dims, int draws, std::mt19937_64& engine, const Null& null) {
    FalseAlarms alarms;
    for (int draw = 0; draw < draws; ++draw) {
        const SpectrumMetrics m = measure(product_spectrum(gaussian_chain(dims, engine)), null);
        alarms.mean += m.outlier_count / draws;
        alarms.draws_with_any += m.outlier_count > 0 ? 1.0 / draws : 0;
    }
    return alarms;
}

TEST(LawSampling, TheProductNullRaisesNoFalseAlarms) {
    std::mt19937_64 engine(3);
    for (const Dims& dims : {Dims{96, 96, 96}, Dims{96, 16, 96}, Dims{16, 96, 16}, Dims{96, 96, 48, 96},
                             Dims{96, 8, 24, 96}, Dims{96, 8, 96}, Dims{64, 96}}) {
        SCOPED_TRACE(chain_name(dims));
        const FalseAlarms product = false_alarms(dims, 300, engine, product_null(ProductLaw(dims, 1), 0.99));
        EXPECT_NEAR(product.mean, 0, 0.5);
        EXPECT_LE(product.draws_with_any, 0.03);
        // The naive null raises them wherever the chain is square or narrower than its ends.
        if (dims.size() == 2 || dims == Dims{16, 96, 16}) continue;
        const double variance = ProductLaw(dims, 1).entry_variance();
        const FalseAlarms naive =
            false_alarms(dims, 20, engine, mp_null({dims.front(), dims.back(), variance}, 0.99));
        EXPECT_GT(naive.mean, 4);
    }
}

TEST(LawSampling, AnIndependentMatrixRaisesNoFalseAlarmsUnderMarchenkoPastur) {
    std::mt19937_64 engine(4);
    int draws_with_any = 0;
    for (int draw = 0; draw < 500; ++draw) {
        const test::Matrix m = gaussian(64, 96, engine);
        const std::vector<double> spectrum = eigenvalues(multiply(m, m, false, true));
        const double variance = estimate_variance(VarianceEstimate::kEntries, spectrum, 64, 96);
        draws_with_any += measure(spectrum, mp_null({64, 96, variance}, 0.99)).outlier_count > 0;
    }
    EXPECT_LE(draws_with_any, 11);  // 5 expected; three standard deviations
}

TEST(LawSampling, TheNaiveNullFlagsARandomLayer) {
    std::mt19937_64 engine(5);
    // Layer 768.768.768, with the variance of the entries: 47 of 768 eigenvalues and 31 % of the energy.
    const std::vector<double> layer = product_spectrum(gaussian_chain({768, 768, 768}, engine));
    const double variance = estimate_variance(VarianceEstimate::kEntries, layer, 768, 768);
    EXPECT_NEAR(variance, 768, 8);
    const SpectrumMetrics naive = measure(layer, mp_null({768, 768, variance}, 0.99));
    // The law has 47.2 beyond the bulk's edge and 45.4 beyond the largest eigenvalue's 99 % quantile.
    EXPECT_NEAR(naive.outlier_count, 45.4, 3);
    const auto beyond =
        std::count_if(layer.begin(), layer.end(), [&](double l) { return l > naive.bulk_edge; });
    RecordProperty("layer_outliers", fmt::format("{} {}", beyond, naive.outlier_count));
    EXPECT_NEAR(static_cast<double>(beyond), 47.2, 3);
    EXPECT_NEAR(naive.outlier_energy, 0.31, 0.02);
    EXPECT_EQ(measure(layer, product_null(ProductLaw({768, 768, 768}, 1), 0.99)).outlier_count, 0);
    // Every eigenvalue of a head 768.64.768: the edge is .333 and the law begins at .378.
    const std::vector<double> head = product_spectrum(gaussian_chain({768, 64, 768}, engine));
    const Null head_null = mp_null({768, 768, 64}, 0.99);
    EXPECT_NEAR(head_null.bulk_edge / (768.0 * 768), 1.0 / 3, 1e-12);
    EXPECT_EQ(measure(head, head_null).outlier_count, 64);
    EXPECT_EQ(measure(head, head_null).outlier_energy, 1);
}

TEST(LawSampling, ThePermutedNullAgreesWithTheProductNull) {
    std::mt19937_64 engine(7);
    for (const Dims& dims : {Dims{96, 96, 96}, Dims{96, 32, 96}}) {
        SCOPED_TRACE(chain_name(dims));
        int draws_with_any = 0;
        constexpr int kMatrices = 60, kPermutations = 4;
        double edge_ratio = 0;
        for (int matrix = 0; matrix < kMatrices; ++matrix) {
            std::vector<test::Matrix> factors = gaussian_chain(dims, engine);
            // A spike in the first factor shows in the product's spectrum and not in the shuffled ones.
            for (int64_t i = 0; i < factors[0].cols; ++i)
                factors[0].values[static_cast<size_t>(i)] += matrix % 2 ? 0 : 6;
            std::vector<std::vector<double>> spectra;
            for (uint64_t draw = 0; draw < kPermutations; ++draw) {
                std::vector<test::Matrix> other = factors;
                for (size_t f = 0; f < other.size(); ++f)
                    other[f].values =
                        test::shuffled(factors[f].values, {77 + static_cast<uint64_t>(matrix), draw}, f);
                spectra.push_back(product_spectrum(other));
            }
            const Null null = drawn_null("permuted", spectra, 0.99, std::nan(""));
            const SpectrumMetrics m = measure(product_spectrum(factors), null);
            if (matrix % 2 == 0) {
                EXPECT_GE(m.outlier_count, 1);
                EXPECT_GT(m.mp_gap_ratio, 1.35);
                continue;
            }
            draws_with_any += m.outlier_count > 0;
            EXPECT_LT(m.ks, 0.1);
            const ProductLaw law(dims,
                                 test::variance_of(factors[0].values) * test::variance_of(factors[1].values));
            edge_ratio += null.lambda_plus / law.tracy_widom_quantile(0.99) * 2 / kMatrices;
        }
        EXPECT_NEAR(edge_ratio, 1, 0.07);  // .96 to .97 with fresh Gaussian factors in place of shuffled ones
        EXPECT_LE(draws_with_any, 3);
    }
}

}  // namespace
}  // namespace pastur
