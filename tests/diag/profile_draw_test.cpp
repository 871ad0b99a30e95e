// The profile null: Gaussian factors of a factor's own row and column profile, against the same numbers on the host,
// and against the product law where the profile is flat.
#include <random>

#include "diag/metrics.h"
#include "tests/support/harness.h"
#include "tests/support/random_matrices.h"

namespace pastur::test {
namespace {

struct FactorShape {
    int64_t rows, terms, columns, units;
    bool gains;
    std::string name() const {
        return fmt::format("{}x{}_terms{}_units{}{}", rows, columns, terms, units, gains ? "_gains" : "");
    }
};

/// The definition, entry by entry.
Matrix draw(const Matrix& factor, const DrawKey& key, uint64_t index, uint64_t copy) {
    Matrix drawn = factor;
    double all = 0;
    for (const double value : factor.values) all += value * value;
    for (int64_t i = 0; i < factor.rows; ++i)
        for (int64_t j = 0; j < factor.cols; ++j) {
            double row = 0, column = 0;
            for (int64_t k = 0; k < factor.cols; ++k)
                row += std::pow(factor.values[static_cast<size_t>(i * factor.cols + k)], 2);
            for (int64_t k = 0; k < factor.rows; ++k)
                column += std::pow(factor.values[static_cast<size_t>(k * factor.cols + j)], 2);
            const int64_t at = i * factor.cols + j;
            drawn.values[static_cast<size_t>(at)] =
                std::sqrt(row * column / all) *
                profile_normal(profile_words(key, index, copy, static_cast<uint64_t>(at)));
        }
    return drawn;
}

class ProfileDraw : public OpTest<FactorShape> {};

// Two copies; the first `units` rows of each are unit rows.
TEST_P(ProfileDraw, HasTheProfileOfTheSumOfStoredRows) {
    const auto& [rows, terms, columns, units, gains] = shape();
    const std::vector<double> stored = normal(2 * rows * terms * columns),
                              gain = gains ? normal(columns)
                                           : std::vector<double>(static_cast<size_t>(columns), 1);
    const DeviceTensor weight = input(stored, {2 * rows * terms, columns}),
                       gain_weight = input(gain, {columns});
    Factor factor{rows + units, columns + units, units, terms};
    std::vector<Matrix> sums;
    for (int64_t copy = 0; copy < 2; ++copy) {
        factor.sources.insert(factor.sources.end(), static_cast<size_t>(units * terms), nullptr);
        Matrix& sum = sums.emplace_back(
            Matrix{rows, columns, std::vector<double>(static_cast<size_t>(rows * columns))});
        for (int64_t row = 0; row < rows * terms; ++row) {
            factor.sources.push_back(weight.view().slice(0, copy * rows * terms + row, 1).data<float>());
            for (int64_t j = 0; j < columns; ++j)
                sum.values[static_cast<size_t>(row / terms * columns + j)] +=
                    stored[static_cast<size_t>((copy * rows * terms + row) * columns + j)] *
                    gain[static_cast<size_t>(j)];
        }
        if (gains) factor.gains.push_back(gain_weight.view().data<float>());
    }
    FactorProduct product{2, 1, {factor}, 3};
    const auto solver = make_spectrum_solver(ctx(), std::span(&product, 1));
    solver->follow(ctx());
    const FactorDraw profile{FactorDraw::Kind::kProfile, {7, 2}};
    const std::vector<Spectrum> got = solver->solve(std::span(&product, 1), profile)[0];
    for (uint64_t copy = 0; copy < 2; ++copy) {
        const Matrix drawn = draw(sums[copy], profile.key, 0, 3 + copy);
        Matrix whole{rows + units, columns + units,
                     std::vector<double>(static_cast<size_t>((rows + units) * (columns + units)))};
        for (int64_t i = 0; i < units; ++i)
            whole.values[static_cast<size_t>(i * whole.cols + columns + i)] = 1;
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j)
                whole.values[static_cast<size_t>((units + i) * whole.cols + j)] =
                    drawn.values[static_cast<size_t>(i * columns + j)];
        const std::vector<double> want = product_spectrum({whole});
        ASSERT_EQ(got[copy].status, Spectrum::Status::kOk);
        ASSERT_EQ(got[copy].eigenvalues.size(), want.size());
        for (size_t i = 0; i < want.size(); ++i)
            EXPECT_NEAR(got[copy].eigenvalues[i], want[i], 1e-10 * want[0]) << i;
    }
    // A rank that solves the second copy alone draws the same numbers.
    FactorProduct part = product;
    part.items = 1;
    part.first_group = 4;
    auto& sources = part.factors[0].sources;
    sources.erase(sources.begin(), sources.begin() + (rows + units) * terms);
    if (gains) part.factors[0].gains.pop_back();
    EXPECT_EQ(solver->solve(std::span(&part, 1), profile)[0][0].eigenvalues.size(),
              got[1].eigenvalues.size());
    const std::vector<double> alone = solver->solve(std::span(&part, 1), profile)[0][0].eigenvalues;
    for (size_t i = 0; i < alone.size(); ++i)
        EXPECT_NEAR(alone[i], got[1].eigenvalues[i], 1e-12 * alone[0]) << i;
}

const std::vector<FactorShape> kFactors = {{5, 1, 9, 0, false},
                                           {6, 3, 4, 0, true},
                                           {33, 2, 40, 3, true},
                                           {1, 4, 7, 2, false},
                                           {600, 1, 33, 0, true}};
INSTANTIATE_TEST_SUITE_P(Diag, ProfileDraw, every_backend<FactorShape>(kFactors), case_name<FactorShape>);

TEST(ProfileDraw, OfZerosIsZeroAndOfNansIsFlagged) {
    Context ctx = CpuContext();
    for (const float value : {0.0f, std::numeric_limits<float>::quiet_NaN()}) {
        const std::vector<float> stored(12, value);
        Factor factor{3, 4};
        for (size_t row = 0; row < 3; ++row) factor.sources.push_back(stored.data() + 4 * row);
        const std::vector<FactorProduct> products = {{1, 1, {factor}}};
        const Spectrum got = make_spectrum_solver(ctx, products)
                                 ->solve(products, FactorDraw{FactorDraw::Kind::kProfile, {1, 0}})[0][0];
        if (value == 0)
            EXPECT_EQ(got.eigenvalues, std::vector<double>(3));
        else
            EXPECT_EQ(got.status, Spectrum::Status::kNonFinite);
    }
}

// On random factors the profile null's edge is that of the product law. Rows of unequal size move both the largest
// eigenvalue and the profile's edge, so the count of outliers stays 0 where the product null has many.
TEST(ProfileDraw, AgreesWithTheProductNullOnRandomFactorsAndFollowsTheirRows) {
    Context ctx = CpuContext();
    std::mt19937_64 engine(5);
    constexpr int kMatrices = 24;
    constexpr uint64_t kDraws = 4;
    for (const bool flat : {true, false})
        for (const std::vector<int64_t>& dims : {std::vector<int64_t>{96, 96, 96}, {96, 32, 96}}) {
            SCOPED_TRACE(chain_name(dims) + (flat ? "" : ", unequal rows"));
            double ratio = 0, by_profile = 0, by_product = 0;
            for (uint64_t matrix = 0; matrix < kMatrices; ++matrix) {
                std::vector<std::vector<float>> stored;
                FactorProduct product{1, 1, {}};
                for (const Matrix& factor : gaussian_chain(dims, engine)) {
                    auto& values = stored.emplace_back(factor.values.begin(), factor.values.end());
                    for (size_t i = 0; !flat && i < values.size(); ++i)
                        if (i / static_cast<size_t>(factor.cols) % 8 == 0) values[i] *= 3;
                    Factor& mine = product.factors.emplace_back(Factor{factor.rows, factor.cols});
                    for (int64_t row = 0; row < factor.rows; ++row)
                        mine.sources.push_back(values.data() + row * factor.cols);
                }
                const std::span products(&product, 1);
                const auto solver = make_spectrum_solver(ctx, products);
                const Spectrum own = solver->solve(products)[0][0];
                std::vector<std::vector<double>> spectra;
                for (uint64_t i = 0; i < kDraws; ++i)
                    spectra.push_back(
                        solver->solve(products, FactorDraw{FactorDraw::Kind::kProfile, {matrix, i}})[0][0]
                            .eigenvalues);
                const Null null = drawn_null("profile", spectra, 0.99, std::nan(""));
                EXPECT_EQ(null.name, "profile");
                const Null law = product_null(ProductLaw(dims, own.variances[0] * own.variances[1]), 0.99);
                ratio += null.lambda_plus / law.lambda_plus / kMatrices;
                by_profile += measure(own.eigenvalues, null).outlier_count / kMatrices;
                by_product += measure(own.eigenvalues, law).outlier_count / kMatrices;
            }
            EXPECT_LE(by_profile, 0.25);
            if (flat) {
                EXPECT_NEAR(ratio, 1, 0.07);
            } else {
                EXPECT_GT(ratio, 1.3);
                EXPECT_GT(by_product, 1);
            }
        }
}

}  // namespace
}  // namespace pastur::test
