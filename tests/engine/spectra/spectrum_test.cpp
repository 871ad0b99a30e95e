// Eigenvalues from factors against LAPACK's singular values of dense matrices: every scope of every variant,
// and chains of awkward shapes.
#include "diag/spectrum.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/spectra/qk_factors.h"
#include "tests/support/spectrum_reference.h"

namespace pastur::test {
namespace {

/// Expects `got` to agree with the direct spectrum `want`, which may be longer by zeros where the rank is not
/// full.
void expect_same_spectrum(const std::vector<double>& got, const std::vector<double>& want,
                          const std::string& what) {
    ASSERT_GE(want.size(), got.size()) << what;
    const double scale = want.empty() ? 0 : want[0];
    for (size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(i < got.size() ? got[i] : 0.0, want[i], 1e-10 * scale) << what << ", eigenvalue " << i;
    const double trace = std::accumulate(got.begin(), got.end(), 0.0);
    const double frobenius = std::accumulate(want.begin(), want.end(), 0.0);
    EXPECT_NEAR(trace, frobenius, 1e-12 * frobenius) << what;
}

struct VariantCase {
    std::string label, attention, model;
    std::string name() const { return label; }
};

class QkSpectrum : public OpTest<VariantCase> {
  protected:
    QkSpectrum()
        : config_(parse_config("[model]\nvocab = 19\nd_model = 12\nlayers = 2\nffn = 10\n" + shape().model +
                                   "\n[attention]\n" + shape().attention + "\n",
                               "tiny", {})),
          model_(config_, ctx(), DType::kF32, {1, 2}),
          weights_(model_.random_weights(random_, DType::kF32)) {
        model_.set_weights(weights_);
        for (const Param& param : params().table().params()) shapes_.push_back({param.name, param.shape});
    }
    const Parameters& params() { return model_.model().params(); }
    std::vector<SpectralMatrix> matrices(const std::vector<Scope>& scopes) {
        return spectral_matrices(config_, scopes, shapes_, [&](const std::string& name) -> ConstTensor {
            for (const Param& param : params().table().params())
                if (param.name == name) return params().master(param);
            throw std::out_of_range(name);
        });
    }
    Config config_;
    ModelUnderTest model_;
    NamedValues weights_;
    std::vector<NamedShape> shapes_;
};

TEST_P(QkSpectrum, EveryScopeMatchesTheDenseMatrix) {
    const std::vector<SpectralMatrix> all = matrices(variant_of(config_).scopes);
    std::vector<FactorProduct> products;
    for (const SpectralMatrix& matrix : all) products.push_back(matrix.product);
    const std::unique_ptr<SpectrumSolver> solver = make_spectrum_solver(ctx(), products);
    solver->follow(ctx());
    const auto spectra = solver->solve(products);

    const DenseWeights dense(config_, weights_);
    size_t compared = 0;
    for (size_t m = 0; m < all.size(); ++m) {
        ASSERT_EQ(spectra[m].size(), all[m].items.size());
        for (size_t i = 0; i < spectra[m].size(); ++i) {
            const auto [layer, head] = all[m].items[i];
            const std::string what = fmt::format("{} layer {} head {}", all[m].name, layer, head);
            ASSERT_EQ(spectra[m][i].status, Spectrum::Status::kOk) << what;
            if (!all[m].name.starts_with("qk")) continue;
            expect_same_spectrum(spectra[m][i].eigenvalues,
                                 squared_singular_values(dense.matrix(all[m].name, layer, head)), what);
            ++compared;
        }
    }
    // qk and qk_literal, and where the form is a sum also qk_content and qk_rope, of two layers and their
    // heads.
    const size_t names = variant_of(config_).has_scope(Scope::kContent) ? 4 : 2;
    EXPECT_EQ(compared, names * 2 * (1 + static_cast<size_t>(config_.model.heads)));
}

// With two layers: 5 pairs of the heads' forms, and the heads and layers of what values and outputs make.
TEST_P(QkSpectrum, PositionsAndValuesMatchTheDenseMatrix) {
    const std::vector<SpectralMatrix> all = matrices({Scope::kPositions, Scope::kOv});
    ASSERT_EQ(all.size(), 5u + 2);
    std::vector<FactorProduct> products;
    for (const SpectralMatrix& matrix : all) products.push_back(matrix.product);
    const std::unique_ptr<SpectrumSolver> solver = make_spectrum_solver(ctx(), products);
    solver->prepare(ctx(), products);
    solver->follow(ctx());
    const auto spectra = solver->solve(products);
    const DenseWeights dense(config_, weights_);
    for (size_t m = 0; m < all.size(); ++m) {
        ASSERT_EQ(all[m].items.size(),
                  2 * (all[m].items[0].head < 0 ? 1u : static_cast<size_t>(config_.model.heads)));
        for (size_t i = 0; i < spectra[m].size(); ++i) {
            const auto [layer, head] = all[m].items[i];
            const std::string what = fmt::format("{} layer {} head {}", all[m].name, layer, head);
            ASSERT_EQ(spectra[m][i].status, Spectrum::Status::kOk) << what;
            expect_same_spectrum(spectra[m][i].eigenvalues,
                                 squared_singular_values(dense.matrix(all[m].name, layer, head)), what);
        }
    }
}

TEST_P(QkSpectrum, WeightsAreDecomposedByThemselves) {
    size_t compared = 0, expected = 0;
    for (const Param& param : params().table().params()) expected += param.is_matrix();
    for (const SpectralMatrix& matrix : matrices({Scope::kWeights})) {
        const std::vector<FactorProduct> product = {matrix.product};
        const auto solver = make_spectrum_solver(ctx(), product);
        solver->follow(ctx());
        const auto spectra = solver->solve(product);
        for (size_t i = 0; i < matrix.items.size(); ++i) {
            for (const Param& param : params().table().params()) {
                const ShortName name = short_name(param.name);
                if (name.name != matrix.name || name.layer != matrix.items[i].layer) continue;
                const Dense dense{param.shape[0], param.shape[1], weights_.at(param.name)};
                expect_same_spectrum(spectra[0][i].eigenvalues, squared_singular_values(dense), param.name);
                ++compared;
            }
        }
    }
    EXPECT_EQ(compared, expected);
}

TEST_P(QkSpectrum, ShufflingKeepsTheEntriesAndDependsOnTheKey) {
    constexpr auto kind = FactorDraw::Kind::kShuffled;
    std::vector<FactorProduct> products;
    for (const SpectralMatrix& matrix : matrices({Scope::kLayer, Scope::kHead}))
        products.push_back(matrix.product);
    const auto solver = make_spectrum_solver(ctx(), products);
    solver->follow(ctx());
    const auto plain = solver->solve(products), first = solver->solve(products, FactorDraw{kind, {1, 0}});
    const auto again = solver->solve(products, FactorDraw{kind, {1, 0}}),
               second = solver->solve(products, FactorDraw{kind, {1, 1}});
    for (size_t p = 0; p < products.size(); ++p) {
        for (size_t i = 0; i < plain[p].size(); ++i) {
            for (size_t f = 0; f < plain[p][i].variances.size(); ++f) {
                const double variance = plain[p][i].variances[f];
                // A sum of shuffled rows has other entries than the sum of the rows.
                if (products[p].factors[f].terms == 1) {
                    EXPECT_NEAR(first[p][i].variances[f], variance, 1e-14 * variance);
                }
            }
            EXPECT_EQ(first[p][i].eigenvalues, again[p][i].eigenvalues);
            EXPECT_NE(first[p][i].eigenvalues, plain[p][i].eigenvalues);
            EXPECT_NE(first[p][i].eigenvalues, second[p][i].eigenvalues);
        }
    }
}

TEST(ShuffledPosition, IsABijection) {
    for (const uint64_t n : {1u, 2u, 7u, 64u, 1000u}) {
        std::vector<int> seen(n);
        for (uint64_t i = 0; i < n; ++i) ++seen.at(shuffled_position(n, {5, 3}, 1, i));
        EXPECT_EQ(seen, std::vector<int>(n, 1)) << n;
    }
}

const std::vector<VariantCase> kVariants = {
    {"mha", "variant = \"mha\"", "heads = 2"},
    {"gqa", "variant = \"mha\"", "heads = 6\nkv_heads = 2\nhead_dim = 4"},
    {"wide_heads", "variant = \"mha\"",
     "heads = 2\nhead_dim = 14"},  // w > d: the bottleneck is the model's width
    {"prerope", "variant = \"mla-prerope\"\nk_rank = 5", "heads = 3"},
    {"prerope_narrow", "variant = \"mla-prerope\"\nk_rank = 3\nlatent_norm = true", "heads = 2"},
    {"prerope_input", "variant = \"mla-prerope\"\nprerope_site = \"input\"\nkv_rank = 7\nlatent_norm = true",
     "heads = 2"},
    {"decoupled", "variant = \"mla-decoupled\"\nkv_rank = 5\nnope_dim = 3\nrope_dim = 2\nv_dim = 4",
     "heads = 3"},
    {"decoupled_wide", "variant = \"mla-decoupled\"\nkv_rank = 11\nnope_dim = 7\nrope_dim = 6\nv_dim = 1",
     "heads = 2"},
    {"decoupled_q_rank", "variant = \"mla-decoupled\"\nkv_rank = 5\nnope_dim = 3\nrope_dim = 2\nq_rank = 4",
     "heads = 2"},
    {"mha_nope", "variant = \"mha-nope\"", "heads = 4\nkv_heads = 2\nhead_dim = 5"},
    {"shared_rope", "variant = \"mha-shared-rope\"\nnope_dim = 3\nrope_dim = 2\nv_dim = 4", "heads = 3"},
    {"shared_rope_wide", "variant = \"mha-shared-rope\"\nnope_dim = 7\nrope_dim = 6\nv_dim = 1", "heads = 2"},
    {"mla_rope", "variant = \"mla-rope\"\nkv_rank = 5\nv_dim = 3", "heads = 3"},
    {"mla_nope", "variant = \"mla-nope\"\nkv_rank = 7\nq_rank = 4", "heads = 2"},
    {"mtla", "variant = \"mtla\"\nkv_rank = 5\nnope_dim = 3\nrope_dim = 2\nv_dim = 4", "heads = 3"},
    {"decoupled_gain",
     "variant = \"mla-decoupled\"\nkv_rank = 5\nnope_dim = 3\nrope_dim = 2\nq_rank = 4\nlatent_gain = \"sqrt\"",
     "heads = 2"},
    {"gqa_qk_norm", "variant = \"mha\"\nqk_norm = \"head\"", "heads = 6\nkv_heads = 2\nhead_dim = 4"},
    {"shared_rope_qk_norm",
     "variant = \"mha-shared-rope\"\nnope_dim = 3\nrope_dim = 2\nv_dim = 4\nqk_norm = \"head\"", "heads = 3"},
    {"decoupled_qk_norm",
     "variant = \"mla-decoupled\"\nkv_rank = 5\nnope_dim = 3\nrope_dim = 2\nq_rank = 4\nqk_norm = \"head\"",
     "heads = 2"},
    {"prerope_qk_norm", "variant = \"mla-prerope\"\nk_rank = 5\nqk_norm = \"head\"", "heads = 3"},
    {"mla_rope_qk_norm", "variant = \"mla-rope\"\nkv_rank = 5\nv_dim = 3\nqk_norm = \"head\"", "heads = 3"},
    {"prerope_gain", "variant = \"mla-prerope\"\nk_rank = 3\nlatent_norm = true\nlatent_gain = \"sqrt\"",
     "heads = 2"},
};
INSTANTIATE_TEST_SUITE_P(Diag, QkSpectrum, every_backend<VariantCase>(kVariants), case_name<VariantCase>);

struct ChainCase {
    std::vector<int64_t> dims;
    std::string name() const { return fmt::format("{}", fmt::join(dims, "x")); }
};

/// Solves chains of given dense factors.
class ChainSpectrum : public OpTest<ChainCase> {
  protected:
    Spectrum solve(const std::vector<Dense>& factors) { return solve_items({factors})[0]; }

    std::vector<Spectrum> solve_items(const std::vector<std::vector<Dense>>& items, bool prepared = false,
                                      const SolverOptions& options = {}) {
        std::vector<std::unique_ptr<DeviceTensor>> memory;
        FactorProduct product{static_cast<int64_t>(items.size()), 1, {}};
        for (size_t i = 0; i < items[0].size(); ++i) {
            // Every other factor is stored transposed.
            const bool transposed = i % 2 == 1;
            const Dense& first = items[0][i];
            Factor factor{transposed ? first.columns : first.rows, transposed ? first.rows : first.columns};
            factor.transposed = transposed;
            for (const std::vector<Dense>& factors : items) {
                const Dense stored = transposed ? factors[i].transposed() : factors[i];
                memory.emplace_back(new DeviceTensor(input(stored.values, {stored.rows, stored.columns})));
                for (int64_t row = 0; row < stored.rows; ++row)
                    factor.sources.push_back(memory.back()->view().slice(0, row, 1).data<float>());
            }
            product.factors.push_back(std::move(factor));
        }
        const std::vector<FactorProduct> products = {product};
        const auto solver = make_spectrum_solver(ctx(), products, options);
        if (prepared) solver->prepare(ctx(), products);
        solver->follow(ctx());
        return solver->solve(products)[0];
    }
    std::vector<Dense> random_factors() {
        std::vector<Dense> factors;
        for (size_t i = 0; i + 1 < shape().dims.size(); ++i) {
            const int64_t rows = shape().dims[i], columns = shape().dims[i + 1];
            factors.push_back({rows, columns, normal(rows * columns)});
        }
        return factors;
    }
    /// Factors whose rows all equal their first row.
    static std::vector<Dense> of_rank_one(std::vector<Dense> factors) {
        for (Dense& factor : factors)
            for (int64_t i = 1; i < factor.rows; ++i)
                for (int64_t j = 0; j < factor.columns; ++j) factor.at(i, j) = factor.at(0, j);
        return factors;
    }
    /// Gram matrices have rounding errors relative to the product of the factors' norms, which may exceed the
    /// norm of the product.
    static void expect_deficient(const Spectrum& spectrum, const std::vector<Dense>& factors) {
        ASSERT_EQ(spectrum.status, Spectrum::Status::kOk);
        const std::vector<double> want = squared_singular_values(product_of(factors));
        double norms = 1;
        for (const Dense& factor : factors) norms *= squared_singular_values(factor)[0];
        for (size_t i = 0; i < spectrum.eigenvalues.size(); ++i) {
            EXPECT_GE(spectrum.eigenvalues[i], 0.0);
            EXPECT_NEAR(spectrum.eigenvalues[i], want[i], 1e-10 * want[0] + 1e-14 * norms);
        }
    }
    static Dense product_of(const std::vector<Dense>& factors) {
        Dense product = factors[0];
        for (size_t i = 1; i < factors.size(); ++i) product = product * factors[i];
        return product;
    }
};

TEST_P(ChainSpectrum, MatchesTheDenseProduct) {
    const std::vector<Dense> factors = random_factors();
    const Spectrum spectrum = solve(factors);
    ASSERT_EQ(spectrum.status, Spectrum::Status::kOk);
    EXPECT_EQ(static_cast<int64_t>(spectrum.eigenvalues.size()),
              *std::min_element(shape().dims.begin(), shape().dims.end()));
    expect_same_spectrum(spectrum.eigenvalues, squared_singular_values(product_of(factors)), "chain");
    ASSERT_EQ(spectrum.variances.size(), factors.size());
    for (size_t i = 0; i < factors.size(); ++i) {
        const std::vector<double>& x = factors[i].values;
        const double mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
        double variance = 0;
        for (const double value : x)
            variance += (value - mean) * (value - mean) / static_cast<double>(x.size());
        EXPECT_NEAR(spectrum.variances[i], variance, 1e-12 * (variance + mean * mean));
    }
}

TEST_P(ChainSpectrum, SolvesManyAtOnce) {
    // More items than a GPU has multiprocessors where that is cheap, else more than are solved at once.
    const int64_t largest = *std::max_element(shape().dims.begin(), shape().dims.end());
    std::vector<std::vector<Dense>> items(largest <= 150 ? 150 : 7);
    for (std::vector<Dense>& factors : items) factors = random_factors();
    const std::vector<Spectrum> spectra = solve_items(items);
    for (size_t i = 0; i < items.size(); ++i) {
        ASSERT_EQ(spectra[i].status, Spectrum::Status::kOk);
        expect_same_spectrum(spectra[i].eigenvalues, squared_singular_values(product_of(items[i])), "item");
    }
    const std::vector<Spectrum> again = solve_items(items);
    for (size_t i = 0; i < items.size(); ++i) EXPECT_EQ(spectra[i].eigenvalues, again[i].eigenvalues);
}

TEST_P(ChainSpectrum, CusolverAgreesWithOwnKernels) {
    const std::vector<std::vector<Dense>> items = {random_factors(), of_rank_one(random_factors()),
                                                   random_factors()};
    const std::vector<Spectrum> own = solve_items(items),
                                cusolver = solve_items(items, false, {.own_kernels = false});
    for (size_t i = 0; i < items.size(); ++i) {
        ASSERT_EQ(cusolver[i].status, Spectrum::Status::kOk) << cusolver[i].reason;
        ASSERT_EQ(cusolver[i].eigenvalues.size(), own[i].eigenvalues.size());
        for (size_t j = 0; j < own[i].eigenvalues.size(); ++j)
            EXPECT_NEAR(cusolver[i].eigenvalues[j], own[i].eigenvalues[j], 1e-10 * own[i].eigenvalues[0])
                << j;
    }
}

TEST_P(ChainSpectrum, SurvivesZeroAndDeficientFactors) {
    const std::vector<Dense> factors = random_factors();
    for (size_t zeroed = 0; zeroed < factors.size(); ++zeroed) {
        std::vector<Dense> with_zero = factors;
        std::fill(with_zero[zeroed].values.begin(), with_zero[zeroed].values.end(), 0.0);
        const Spectrum spectrum = solve(with_zero);
        ASSERT_EQ(spectrum.status, Spectrum::Status::kOk);
        for (const double value : spectrum.eigenvalues) EXPECT_EQ(value, 0.0);
    }
    expect_deficient(solve(of_rank_one(factors)), of_rank_one(factors));
}

TEST_P(ChainSpectrum, SolvesDeficientOnesBesideOthers) {
    std::vector<std::vector<Dense>> items(4);
    for (std::vector<Dense>& factors : items) factors = random_factors();
    std::fill(items[1].back().values.begin(), items[1].back().values.end(), 0.0);
    items[2] = of_rank_one(items[2]);
    const std::vector<Spectrum> spectra = solve_items(items);
    for (size_t i = 0; i < items.size(); ++i) expect_deficient(spectra[i], items[i]);
}

TEST_P(ChainSpectrum, PreparingChangesNothing) {
    const std::vector<std::vector<Dense>> items = {random_factors(), random_factors()};
    const std::vector<Spectrum> want = solve_items(items), prepared = solve_items(items, true);
    for (size_t i = 0; i < items.size(); ++i) {
        ASSERT_EQ(prepared[i].status, Spectrum::Status::kOk);
        EXPECT_EQ(prepared[i].eigenvalues, want[i].eigenvalues);
        EXPECT_EQ(prepared[i].variances, want[i].variances);
    }
}

TEST_P(ChainSpectrum, FlagsWhatIsNotFinite) {
    for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
        std::vector<Dense> factors = random_factors();
        factors.back().values.back() = bad;
        const Spectrum spectrum = solve(factors);
        EXPECT_EQ(spectrum.status, Spectrum::Status::kNonFinite);
        EXPECT_TRUE(spectrum.eigenvalues.empty());
        EXPECT_FALSE(std::isfinite(spectrum.variances.back()));
    }
}

const std::vector<ChainCase> kChains = {
    {{1, 1}},           {{1, 37}},      {{37, 1}},         {{40, 9}},         {{9, 40}},
    {{33, 33}},         {{1, 5, 1}},    {{5, 1, 5}},       {{29, 7, 31}},     {{7, 29, 31}},
    {{31, 29, 7}},      {{17, 17, 17}}, {{29, 8, 12, 23}}, {{29, 12, 8, 23}}, {{8, 8, 8, 8, 8}},
    {{70, 66, 65, 70}}, {{70, 33, 70}}, {{140, 130, 140}}, {{610, 600, 610}}, {{65, 65}},
    {{1030, 1024}}};
INSTANTIATE_TEST_SUITE_P(Diag, ChainSpectrum, every_backend<ChainCase>(kChains), case_name<ChainCase>);

}  // namespace
}  // namespace pastur::test
