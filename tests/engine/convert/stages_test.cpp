// The matrix stages of a conversion, on random matrices.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "engine/convert/stages/latent.h"
#include "engine/convert/stages/rotation.h"

namespace pastur::convert {
namespace {

Matrix random_matrix(int64_t rows, int64_t columns, uint64_t seed) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    Matrix matrix = zeros(rows, columns);
    for (double& value : matrix.values) value = normal(engine);
    return matrix;
}

/// E[x x^T] of inputs whose directions differ in energy by four orders of magnitude.
Matrix random_moment(int64_t width, uint64_t seed) {
    Matrix factor = random_matrix(width, width, seed);
    for (int64_t i = 0; i < width; ++i)
        for (int64_t j = 0; j < width; ++j)
            row_of(factor, i)[j] *= std::pow(10, -2.0 * static_cast<double>(j) / static_cast<double>(width));
    return dense::gram(factor);
}

double largest_difference(const Matrix& a, const Matrix& b) {
    double largest = 0;
    for (size_t i = 0; i < a.values.size(); ++i)
        largest = std::max(largest, std::abs(a.values[i] - b.values[i]));
    return largest;
}

constexpr HeadSizes kSizes = {13, 6, 3, 12};  // C, H, g, D

std::vector<FrequencyGroup> rotate(const Matrix& keys, const Matrix& moment, const RopePlan& plan,
                                   RotationKind rotation) {
    return rotate_frequencies(keys, moment, kSizes, plan, rotation);
}

double sum(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(ConvertStages, HermitianEigenvectorsDiagonaliseAndAreUnitary) {
    const int64_t n = 7;
    const Matrix re = random_matrix(n, n, 1), im = random_matrix(n, n, 2);
    ComplexMatrix a{std::vector<std::complex<double>>(n * n), n, n};
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
            a.at(i, j) = {row_of(re, i)[j] + row_of(re, j)[i], row_of(im, i)[j] - row_of(im, j)[i]};
    const HermitianEigen eigen = eigen_hermitian(a);
    for (int64_t e = 0; e < n; ++e) {
        if (e > 0) {
            EXPECT_GE(eigen.values[static_cast<size_t>(e - 1)], eigen.values[static_cast<size_t>(e)]);
        }
        for (int64_t i = 0; i < n; ++i) {
            std::complex<double> image = 0, overlap = 0;
            for (int64_t j = 0; j < n; ++j) {
                image += a.at(i, j) * eigen.vectors.at(j, e);
                overlap += std::conj(eigen.vectors.at(j, i)) * eigen.vectors.at(j, e);
            }
            EXPECT_LT(std::abs(image - eigen.values[static_cast<size_t>(e)] * eigen.vectors.at(i, e)), 1e-12);
            EXPECT_LT(std::abs(overlap - (i == e ? 1.0 : 0.0)), 1e-12);
        }
    }
}

TEST(ConvertStages, AComponentHasTheEnergyOfItsEigenvalueAndComplexKeepsAtLeastThatOfReal) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
        const Matrix keys = random_matrix(kSizes.kv_heads * kSizes.head_dim, kSizes.width, 2 * seed);
        const Matrix moment = random_moment(kSizes.width, 2 * seed + 1);
        for (const RopePlan plan : {RopePlan{12, 1}, RopePlan{6, 2}, RopePlan{4, 3}, RopePlan{2, 6}}) {
            const auto real = rotate(keys, moment, plan, RotationKind::kReal);
            const auto complex = rotate(keys, moment, plan, RotationKind::kComplex);
            EXPECT_GE(rope_share(complex), rope_share(real) - 1e-12);
            for (const auto* groups : {&real, &complex}) {
                double all = 0;
                for (const FrequencyGroup& group : *groups) all += sum(group.energies);
                EXPECT_NEAR(all, energy_of(keys, moment), 1e-9 * all);
                for (const FrequencyGroup& group : *groups)
                    for (size_t e = 0; e < group.energies.size(); ++e) {
                        const Matrix rows = component_keys(keys, group, static_cast<int64_t>(e), kSizes);
                        EXPECT_NEAR(energy_of(rows, moment), group.energies[e], 1e-9 * all);
                    }
            }
        }
    }
}

/// The score of a query with a key, rotated at frequency `angle`, of rows (real, imaginary) applied to x and y.
double rotated_score(const Matrix& q, const Matrix& k, const Matrix& x, const Matrix& y, double angle) {
    const auto apply = [](const Matrix& rows, const Matrix& v) {
        std::complex<double> z = 0;
        for (int64_t c = 0; c < rows.columns; ++c)
            z += std::complex<double>(row_of(rows, 0)[c], row_of(rows, 1)[c]) *
                 v.values[static_cast<size_t>(c)];
        return z;
    };
    return (std::conj(apply(q, x)) * apply(k, y) * std::polar(1.0, angle)).real();
}

/// The pair of rows of frequency f of a head.
Matrix pair_of(const Matrix& w, int64_t head, int64_t f) {
    Matrix pair = rows_of(w, head * kSizes.head_dim + f, 1);
    const Matrix im = rows_of(w, head * kSizes.head_dim + f + kSizes.frequencies(), 1);
    pair.values.insert(pair.values.end(), im.values.begin(), im.values.end());
    pair.rows = 2;
    return pair;
}

TEST(ConvertStages, RotatedComponentsHaveTheScoresOfTheHeads) {
    const Matrix keys = random_matrix(kSizes.kv_heads * kSizes.head_dim, kSizes.width, 3);
    const Matrix queries = random_matrix(kSizes.heads * kSizes.head_dim, kSizes.width, 4);
    const Matrix moment = random_moment(kSizes.width, 5);
    const Matrix x = random_matrix(1, kSizes.width, 6), y = random_matrix(1, kSizes.width, 7);
    for (const RotationKind rotation : {RotationKind::kReal, RotationKind::kComplex})
        for (const FrequencyGroup& group : rotate(keys, moment, {12, 1}, rotation))
            for (int64_t head = 0; head < kSizes.heads; ++head) {
                const double angle = 0.7 * static_cast<double>(group.first + 1);
                const double want =
                    rotated_score(pair_of(queries, head, group.first),
                                  pair_of(keys, head / kSizes.group(), group.first), x, y, angle);
                double got = 0;
                for (int64_t e = 0; e < kSizes.kv_heads; ++e)
                    got += rotated_score(component_queries(queries, group, e, head, kSizes),
                                         component_keys(keys, group, e, kSizes), x, y, angle);
                EXPECT_NEAR(got, want, 1e-11 * std::max(1.0, std::abs(want)));
            }
}

TEST(ConvertStages, RopeAndContentHaveTheScoreOfTheHeadsAtRelativePositionZero) {
    const Matrix keys = random_matrix(kSizes.kv_heads * kSizes.head_dim, kSizes.width, 3);
    const Matrix queries = random_matrix(kSizes.heads * kSizes.head_dim, kSizes.width, 4);
    const Matrix moment = random_moment(kSizes.width, 5);
    for (const RotationKind rotation : {RotationKind::kReal, RotationKind::kComplex})
        for (const RopePlan plan :
             {RopePlan{12, 1}, RopePlan{4, 3}, RopePlan{4, 1}, RopePlan{2, 6}, RopePlan{6, 6}}) {
            const auto groups = rotate(keys, moment, plan, rotation);
            const PartialRope split = split_rope(queries, keys, groups, kSizes, plan);
            for (int64_t head = 0; head < kSizes.heads; ++head) {
                const auto form = [&](const Matrix& q, const Matrix& k) {  // q^T k [C, C]
                    Matrix left = q;
                    left.transposed = true;
                    return dense::multiply(left, k);
                };
                const int64_t kv = head / kSizes.group() * kSizes.head_dim;
                const Matrix q = rows_of(queries, head * kSizes.head_dim, kSizes.head_dim);
                Matrix got = form(q, rows_of(split.content_keys, kv, kSizes.head_dim));
                const Matrix rope =
                    form(rows_of(split.rope_queries, head * plan.rope_dim, plan.rope_dim), split.rope_keys);
                for (size_t i = 0; i < got.values.size(); ++i) got.values[i] += rope.values[i];
                EXPECT_LT(largest_difference(got, form(q, rows_of(keys, kv, kSizes.head_dim))), 1e-11);
            }
            // Energies add up: components are orthogonal.
            const double all = energy_of(keys, moment);
            EXPECT_NEAR(energy_of(split.rope_keys, moment), rope_share(groups) * all, 1e-9 * all);
            EXPECT_NEAR(energy_of(split.content_keys, moment), (1 - rope_share(groups)) * all, 1e-9 * all);
        }
}

TEST(ConvertStages, KeepsTheStridedFrequencies) {
    const Matrix keys = random_matrix(kSizes.kv_heads * kSizes.head_dim, kSizes.width, 3);
    const Matrix moment = random_moment(kSizes.width, 5);
    const auto kept = [&](const RopePlan& plan) {
        std::vector<int64_t> counts;
        for (const FrequencyGroup& group : rotate(keys, moment, plan, RotationKind::kComplex))
            counts.push_back(group.kept);
        return counts;
    };
    EXPECT_EQ(kept({12, 1}), (std::vector<int64_t>{1, 1, 1, 1, 1, 1}));
    EXPECT_EQ(kept({4, 1}), (std::vector<int64_t>{1, 0, 0, 1, 0, 0}));
    EXPECT_EQ(kept({4, 3}), (std::vector<int64_t>{1, 1}));
    EXPECT_EQ(kept({4, 6}), (std::vector<int64_t>{2}));
}

TEST(ConvertStages, CompressionIsExactAtFullRankAndKeepsTheLargestEigenvalues) {
    for (const int64_t rows : {9, 13, 30}) {
        const Matrix w = random_matrix(rows, 13, static_cast<uint64_t>(rows));
        const Matrix moment = random_moment(13, 8), lower = cholesky(moment, 1e-12);
        const LowRank full = compress(w, lower, std::min<int64_t>(rows, 13));
        EXPECT_LT(largest_difference(dense::multiply(full.up, full.down), w), 1e-8);
        const std::vector<double> values = eigen_symmetric(moment_of(w, moment)).values;
        for (const int64_t rank : {1, 4, 8}) {
            const LowRank low = compress(w, lower, rank);
            const double kept = std::accumulate(values.begin(), values.begin() + rank, 0.0) / sum(values);
            EXPECT_NEAR(kept_energy(w, low.up, low.down, moment), kept, 1e-9);
            Matrix columns = low.up;
            columns.transposed = true;
            Matrix identity = zeros(rank, rank);
            for (int64_t i = 0; i < rank; ++i) row_of(identity, i)[i] = 1;
            EXPECT_LT(largest_difference(dense::gram(columns), identity), 1e-8);
        }
    }
}

TEST(ConvertStages, AFewInputsAreEnoughForAnExactFullRank) {
    const Matrix w = random_matrix(30, 13, 9), inputs = random_matrix(13, 4, 10);
    const LowRank full = compress(w, cholesky(dense::gram(inputs), 1e-7), 13);
    EXPECT_LT(largest_difference(dense::multiply(full.up, full.down), w), 1e-6);
}

TEST(ConvertStages, BalancedKeysAndValuesHaveEqualEnergyInTheLatent) {
    Matrix keys = random_matrix(36, 13, 11);
    for (double& value : keys.values) value *= 50;
    const Matrix values = random_matrix(36, 13, 12), moment = random_moment(13, 13);
    const Matrix lower = cholesky(moment, 1e-12);
    const JointLatent joint = compress_jointly(keys, values, moment, lower, 6);
    EXPECT_NEAR(joint.balance, std::sqrt(energy_of(keys, moment) / energy_of(values, moment)), 1e-9);
    const double kept_keys = kept_energy(keys, joint.key_up, joint.down, moment);
    const double kept_values = kept_energy(values, joint.value_up, joint.down, moment);
    EXPECT_GT(std::min(kept_keys, kept_values), 0.8);
    // Without the balance the values would hardly count.
    Matrix unbalanced = keys;
    unbalanced.values.insert(unbalanced.values.end(), values.values.begin(), values.values.end());
    unbalanced.rows += values.rows;
    const LowRank low = compress(unbalanced, lower, 6);
    EXPECT_LT(kept_energy(values, rows_of(low.up, 36, 36), low.down, moment), kept_values);
}

TEST(ConvertStages, LevellingFindsScalesThatMakeTheNormConstant) {
    // c = (a s_0, b s_1, ...) with a^2 + b^2 + ... constant: the scales 1 / s level it exactly.
    constexpr int64_t kRank = 5, kTokens = 4000;
    LatentMoments moments{kTokens, std::vector<double>(kRank), zeros(kRank, kRank)};
    const Matrix draws = random_matrix(kTokens, kRank, 14);
    Matrix latents = draws;
    for (int64_t t = 0; t < kTokens; ++t) {
        double norm = 0;
        for (int64_t i = 0; i < kRank; ++i) norm += row_of(draws, t)[i] * row_of(draws, t)[i];
        for (int64_t i = 0; i < kRank; ++i)
            row_of(latents, t)[i] *= std::pow(3.0, static_cast<double>(i)) / std::sqrt(norm);
        for (int64_t i = 0; i < kRank; ++i)
            for (int64_t j = 0; j < kRank; ++j) {
                const double a = row_of(latents, t)[i], b = row_of(latents, t)[j];
                row_of(moments.products, i)[j] += a * a * b * b;
                if (j == 0) moments.squares[static_cast<size_t>(i)] += a * a;
            }
    }
    const std::vector<double> scales = levelling_scales(moments);
    for (int64_t t = 0; t < kTokens; ++t) {
        double mean = 0;
        for (int64_t i = 0; i < kRank; ++i) {
            const double c = row_of(latents, t)[i] * scales[static_cast<size_t>(i)];
            mean += c * c / kRank;
        }
        EXPECT_NEAR(mean, 1, 1e-3);
    }
}

}  // namespace
}  // namespace pastur::convert
