// Leading singular vectors against a singular value decomposition of the dense product, and overlaps of subspaces.
#include "diag/subspace.h"

#include <cmath>
#include <random>

#include "tests/support/random_matrices.h"

namespace pastur::test {
namespace {

/// Stored factors of a product of one item, whose numbers are those of float.
struct Product {
    explicit Product(const std::vector<Matrix>& dense) {
        product.items = 1;
        for (size_t f = 0; f < dense.size(); ++f) {
            const bool transposed = f % 2 == 1;
            const Matrix& matrix = dense[f];
            Factor factor{transposed ? matrix.cols : matrix.rows, transposed ? matrix.rows : matrix.cols};
            factor.transposed = transposed;
            auto& values = stored.emplace_back(matrix.values.size());
            for (int64_t i = 0; i < matrix.rows; ++i)
                for (int64_t j = 0; j < matrix.cols; ++j)
                    values[static_cast<size_t>(transposed ? j * matrix.rows + i : i * matrix.cols + j)] =
                        static_cast<float>(matrix.values[static_cast<size_t>(i * matrix.cols + j)]);
            for (int64_t row = 0; row < factor.rows; ++row)
                factor.sources.push_back(values.data() + row * factor.columns);
            product.factors.push_back(std::move(factor));
        }
    }
    std::vector<std::vector<float>> stored;
    FactorProduct product;
};

Matrix dense_product(const std::vector<Matrix>& factors) {
    Matrix m = factors[0];
    for (double& value : m.values) value = static_cast<double>(static_cast<float>(value));
    for (size_t i = 1; i < factors.size(); ++i) {
        Matrix next = factors[i];
        for (double& value : next.values) value = static_cast<double>(static_cast<float>(value));
        m = multiply(m, next);
    }
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

// Bottlenecks at the left, in the middle and at the right of the chain.
TEST(Subspace, HoldsTheLeadingLeftSingularVectors) {
    std::mt19937_64 engine(3);
    for (const std::vector<int64_t>& dims : {std::vector<int64_t>{20, 20, 20},
                                             {12, 31, 40},
                                             {40, 13, 29, 37},
                                             {40, 31, 12},
                                             {30, 5, 30},
                                             {9, 40},
                                             {1, 7},
                                             {7, 1}}) {
        SCOPED_TRACE(chain_name(dims));
        const std::vector<Matrix> factors = gaussian_chain(dims, engine);
        const Product product(factors);
        const int64_t rank = *std::min_element(dims.begin(), dims.end()), kept = std::min<int64_t>(8, rank);
        const Subspace got = leading_left_vectors(product.product, 0, 8),
                       want = by_svd(dense_product(factors), kept);
        ASSERT_EQ(got.count, kept);
        ASSERT_EQ(got.width, dims.front());
        EXPECT_NEAR(overlap(got, want), 1, 1e-10);
        for (int64_t i = 0; i < got.count; ++i) {
            double along = 0, length = 0;
            for (int64_t j = 0; j < got.width; ++j) {
                const double mine = got.vectors[static_cast<size_t>(i * got.width + j)];
                along += mine * want.vectors[static_cast<size_t>(i * got.width + j)];
                length += mine * mine;
            }
            EXPECT_NEAR(length, 1, 1e-12);
            EXPECT_NEAR(std::abs(along), 1, 1e-6) << "up to its sign, vector " << i;
        }
        // Overlaps with another random product's are those of the direct decompositions.
        const std::vector<Matrix> others = gaussian_chain(dims, engine);
        const Product other(others);
        EXPECT_NEAR(overlap(got, leading_left_vectors(other.product, 0, 8)),
                    overlap(want, by_svd(dense_product(others), kept)), 1e-6);
    }
}

TEST(Subspace, HasAsManyVectorsAsTheProductHasDirections) {
    std::mt19937_64 engine(4);
    std::vector<Matrix> factors = gaussian_chain({24, 24, 24}, engine);
    for (int64_t i = 3; i < 24; ++i)  // rank 3
        for (int64_t j = 0; j < 24; ++j)
            factors[1].values[static_cast<size_t>(i * 24 + j)] =
                factors[1].values[static_cast<size_t>(i % 3 * 24 + j)];
    EXPECT_EQ(leading_left_vectors(Product(factors).product, 0, 8).count, 3);
    std::fill(factors[0].values.begin(), factors[0].values.end(), 0.0);
    EXPECT_EQ(leading_left_vectors(Product(factors).product, 0, 8).count, 0);
    factors[0].values[5] = std::nan("");
    EXPECT_EQ(leading_left_vectors(Product(factors).product, 0, 8).count, 0);
}

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
