// Leading singular vectors against a singular value decomposition of the dense product, and overlaps of subspaces.
#include <cmath>
#include <memory>
#include <random>

#include "tests/support/harness.h"
#include "tests/support/random_matrices.h"

namespace pastur::test {
namespace {

struct Chain {
    std::vector<int64_t> dims;
    double spike = 0;  ///< singular value of a rank-one term of the first factor, over its entries' deviation
    std::string name() const {
        return fmt::format("{}{}", fmt::join(dims, "x"), spike > 0 ? fmt::format("_spike{}", spike) : "");
    }
};

Matrix dense_product(const std::vector<Matrix>& factors) {
    Matrix m = factors[0];
    for (size_t i = 1; i < factors.size(); ++i) m = multiply(m, factors[i]);
    return m;
}

/// The first k left singular vectors by dgesvd.
Subspace by_svd(Matrix m, int64_t k) {
    const auto rows = static_cast<int>(m.rows), columns = static_cast<int>(m.cols),
               n = std::min(rows, columns);
    std::vector<double> values(static_cast<size_t>(n)), u(static_cast<size_t>(rows * n)), work(values.size());
    double unused = 0;
    EXPECT_EQ(LAPACKE_dgesvd(LAPACK_ROW_MAJOR, 'S', 'N', rows, columns, m.values.data(), columns,
                             values.data(), u.data(), n, &unused, 1, work.data()),
              0);
    Subspace subspace{std::min<int64_t>(k, n), rows, {}};
    for (int64_t i = 0; i < subspace.count; ++i)
        for (int64_t row = 0; row < rows; ++row)
            subspace.vectors.push_back(u[static_cast<size_t>(row * n + i)]);
    return subspace;
}

/// Two items of one chain each, every second factor stored as its transpose. The dense factors hold the numbers of float.
class LeadingVectors : public OpTest<Chain> {
  protected:
    static constexpr int64_t kVectors = 8;

    std::vector<Matrix> draw(const Chain& chain) {
        std::vector<Matrix> factors = gaussian_chain(chain.dims, engine_);
        const Matrix left = gaussian(chain.dims[0], 1, engine_), right = gaussian(1, chain.dims[1], engine_);
        const double length = std::sqrt(static_cast<double>(chain.dims[0] * chain.dims[1]));
        for (int64_t i = 0; i < chain.dims[0]; ++i)
            for (int64_t j = 0; j < chain.dims[1]; ++j)
                factors[0].values[static_cast<size_t>(i * chain.dims[1] + j)] +=
                    chain.spike / length * left.values[static_cast<size_t>(i)] *
                    right.values[static_cast<size_t>(j)];
        for (Matrix& factor : factors)
            for (double& value : factor.values) value = static_cast<double>(static_cast<float>(value));
        return factors;
    }

    std::vector<Spectrum> solve(const std::vector<std::vector<Matrix>>& items) {
        FactorProduct product;
        product.items = std::ssize(items);
        product.leading_vectors = kVectors;
        std::vector<std::unique_ptr<DeviceTensor>> stored;  // which do not move
        for (size_t f = 0; f < items[0].size(); ++f) {
            const bool transposed = f % 2 == 1;
            const auto [rows, columns, unused] = items[0][f];
            Factor factor{transposed ? columns : rows, transposed ? rows : columns};
            factor.transposed = transposed;
            for (const std::vector<Matrix>& item : items) {
                std::vector<double> values;
                for (int64_t i = 0; i < factor.rows; ++i)
                    for (int64_t j = 0; j < factor.columns; ++j)
                        values.push_back(item[f].values[static_cast<size_t>(transposed ? j * columns + i
                                                                                       : i * columns + j)]);
                stored.emplace_back(new DeviceTensor(input(values, {factor.rows, factor.columns})));
                for (int64_t row = 0; row < factor.rows; ++row)
                    factor.sources.push_back(stored.back()->view().slice(0, row, 1).data<float>());
            }
            product.factors.push_back(std::move(factor));
        }
        const auto solver = make_spectrum_solver(ctx(), std::span(&product, 1));
        solver->follow(ctx());
        EXPECT_EQ(solver->solve(std::span(&product, 1), FactorDraw{FactorDraw::Kind::kProfile, {1, 2}})[0][0]
                      .leading.count,
                  0)
            << "of a draw";
        return solver->solve(std::span(&product, 1))[0];
    }

    std::mt19937_64 engine_{3};
};

// Bottlenecks at the left, in the middle and at the right of the chain.
TEST_P(LeadingVectors, AreThoseOfADenseDecomposition) {
    const std::vector<int64_t>& dims = shape().dims;
    const int64_t rank = *std::min_element(dims.begin(), dims.end()), kept = std::min(kVectors, rank);
    const std::vector<std::vector<Matrix>> items = {draw(shape()), draw(shape())};
    const std::vector<Spectrum> got = solve(items);
    std::vector<Subspace> want;
    for (size_t item = 0; item < items.size(); ++item) {
        const Subspace& mine = got[item].leading;
        want.push_back(by_svd(dense_product(items[item]), kept));
        ASSERT_EQ(mine.count, kept);
        ASSERT_EQ(mine.width, dims.front());
        EXPECT_NEAR(overlap(mine, want.back()), 1, 1e-10);
        for (int64_t i = 0; i < mine.count; ++i) {
            double along = 0, length = 0;
            for (int64_t j = 0; j < mine.width; ++j) {
                const double entry = mine.vectors[static_cast<size_t>(i * mine.width + j)];
                along += entry * want.back().vectors[static_cast<size_t>(i * mine.width + j)];
                length += entry * entry;
            }
            EXPECT_NEAR(length, 1, 1e-12);
            EXPECT_NEAR(std::abs(along), 1, 1e-6) << "up to its sign, vector " << i;
        }
    }
    EXPECT_NEAR(overlap(got[0].leading, got[1].leading), overlap(want[0], want[1]), 1e-6);
    EXPECT_EQ(solve(items)[1].leading.vectors, got[1].leading.vectors) << "not reproducible";
}

INSTANTIATE_TEST_SUITE_P(Ops, LeadingVectors,
                         every_backend<Chain>({{{20, 20, 20}},
                                               {{12, 31, 40}},
                                               {{40, 13, 29, 37}},
                                               {{40, 31, 12}},
                                               {{30, 5, 30}},
                                               {{9, 40}},
                                               {{1, 7}},
                                               {{7, 1}},
                                               {{300, 300, 300}},
                                               {{257, 130, 257}},
                                               {{257, 130, 257}, 300},
                                               {{129, 129, 129}, 1000}}),
                         case_name<Chain>);

class DeficientVectors : public LeadingVectors {};

// One item is whole; the other has few directions, none, or no finite numbers.
TEST_P(DeficientVectors, AreAsManyAsTheProductHasDirections) {
    const std::vector<Matrix> whole = draw(shape());
    std::vector<Matrix> factors = draw(shape());
    const auto counts = [&] {
        const std::vector<Spectrum> got = solve({whole, factors});
        return std::pair(got[0].leading.count, got[1].leading.count);
    };
    const int64_t rows = factors[1].rows, columns = factors[1].cols;
    for (int64_t i = 3; i < rows; ++i)  // rank 3
        for (int64_t j = 0; j < columns; ++j)
            factors[1].values[static_cast<size_t>(i * columns + j)] =
                factors[1].values[static_cast<size_t>(i % 3 * columns + j)];
    EXPECT_EQ(counts(), std::pair(kVectors, int64_t{3}));
    std::fill(factors[0].values.begin(), factors[0].values.end(), 0.0);
    EXPECT_EQ(counts(), std::pair(kVectors, int64_t{0}));
    factors[0].values[5] = std::nan("");
    EXPECT_EQ(counts(), std::pair(kVectors, int64_t{0}));
}

INSTANTIATE_TEST_SUITE_P(Ops, DeficientVectors, every_backend<Chain>({{{24, 24, 24}}, {{50, 40, 60}}}),
                         case_name<Chain>);

TEST(Overlap, IsTheMeanSquaredCosine) {
    const Subspace xy{2, 3, {1, 0, 0, 0, 1, 0}}, z{1, 3, {0, 0, 1}}, x{1, 3, {1, 0, 0}};
    const double r = std::sqrt(0.5);
    const Subspace diagonal{1, 3, {r, 0, r}};
    EXPECT_EQ(overlap(xy, xy), 1);
    EXPECT_EQ(overlap(xy, z), 0);
    EXPECT_EQ(overlap(xy, x), 0.5);
    EXPECT_NEAR(overlap(x, diagonal), 0.5, 1e-15);
    EXPECT_TRUE(std::isnan(overlap(x, {})));
    // Random subspaces of k vectors in d dimensions: k / d.
    std::mt19937_64 engine(5);
    double mean = 0;
    for (int i = 0; i < 40; ++i)
        mean += overlap(by_svd(gaussian(64, 64, engine), 8), by_svd(gaussian(64, 64, engine), 8)) / 40;
    EXPECT_NEAR(mean, 8.0 / 64, 0.01);
}

}  // namespace
}  // namespace pastur::test
