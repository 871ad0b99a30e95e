// The permuted null's shuffle of one factor against numbers shuffled on the host.
#include "tests/support/harness.h"
#include "tests/support/random_matrices.h"

namespace pastur::test {
namespace {

struct FactorShape {
    int64_t rows, terms, columns;
    bool gains;
    std::string name() const {
        return fmt::format("{}x{}_terms{}{}", rows, columns, terms, gains ? "_gains" : "");
    }
};

class ShuffledFactor : public OpTest<FactorShape> {};

TEST_P(ShuffledFactor, ShufflesStoredNumbersBeforeTheyAreAddedUp) {
    const auto& [rows, terms, columns, gains] = shape();
    std::vector<double> stored = normal(rows * terms * columns);
    const std::vector<double> gain =
        gains ? normal(columns) : std::vector<double>(static_cast<size_t>(columns), 1);
    const DeviceTensor weight = input(stored, {rows * terms, columns}), gain_weight = input(gain, {columns});

    Factor factor{rows, columns};
    factor.terms = terms;
    for (int64_t row = 0; row < rows * terms; ++row)
        factor.sources.push_back(weight.view().slice(0, row, 1).data<float>());
    if (gains) factor.gains.push_back(gain_weight.view().data<float>());
    const std::vector<FactorProduct> products = {{1, 1, {factor}}};
    const auto solver = make_spectrum_solver(ctx(), products);
    solver->follow(ctx());

    const DrawKey key{7, 3};
    for (size_t i = 0; i < stored.size(); ++i) stored[i] *= gain[i % static_cast<size_t>(columns)];
    for (const bool shuffle : {false, true}) {
        const std::vector<double> numbers = shuffle ? shuffled(stored, key, 0) : stored;
        Matrix sum{rows, columns, std::vector<double>(static_cast<size_t>(rows * columns))};
        for (int64_t i = 0; i < rows * terms * columns; ++i)
            sum.values[static_cast<size_t>(i / (terms * columns) * columns + i % columns)] +=
                numbers[static_cast<size_t>(i)];
        const std::vector<double> want = product_spectrum({sum});
        const Spectrum got = shuffle
                                 ? solver->solve(products, FactorDraw{FactorDraw::Kind::kShuffled, key})[0][0]
                                 : solver->solve(products)[0][0];
        ASSERT_EQ(got.status, Spectrum::Status::kOk);
        ASSERT_EQ(got.eigenvalues.size(), want.size());
        for (size_t i = 0; i < want.size(); ++i)
            EXPECT_NEAR(got.eigenvalues[i], want[i], 1e-10 * want[0]) << i << (shuffle ? ", shuffled" : "");
        EXPECT_NEAR(got.variances[0], variance_of(sum.values), 1e-10 * got.variances[0]);
    }
}

const std::vector<FactorShape> kFactors = {
    {5, 1, 9, false}, {6, 3, 4, false}, {6, 3, 4, true}, {33, 12, 40, true}, {1, 4, 7, false}};
INSTANTIATE_TEST_SUITE_P(Diag, ShuffledFactor, every_backend<FactorShape>(kFactors), case_name<FactorShape>);

}  // namespace
}  // namespace pastur::test
