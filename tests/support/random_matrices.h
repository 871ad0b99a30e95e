#pragma once
// Random matrices and quadrature, for tests of the laws in diag/.
#include <cblas.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "diag/spectrum.h"

namespace pastur::test {

/// Row-major.
struct Matrix {
    int64_t rows = 0, cols = 0;
    std::vector<double> values;
};

inline Matrix gaussian(int64_t rows, int64_t cols, std::mt19937_64& engine, double stddev = 1) {
    std::normal_distribution<double> normal(0, stddev);
    Matrix m{rows, cols, std::vector<double>(static_cast<size_t>(rows * cols))};
    for (double& value : m.values) value = normal(engine);
    return m;
}

/// The text "768.64.768" for these dims.
inline std::string chain_name(const std::vector<int64_t>& dims) {
    return fmt::format("{}", fmt::join(dims, "."));
}

inline double variance_of(const std::vector<double>& entries) {
    double sum = 0, squares = 0;
    for (const double entry : entries) {
        sum += entry;
        squares += entry * entry;
    }
    return variance_from_sums(sum, squares, std::ssize(entries));
}

/// The entries in the order in which the permuted null reads them.
template <typename T>
std::vector<T> shuffled(const std::vector<T>& entries, const DrawKey& key, uint64_t factor) {
    std::vector<T> result;
    for (uint64_t i = 0; i < entries.size(); ++i)
        result.push_back(entries[shuffled_position(entries.size(), key, factor, i)]);
    return result;
}

/// Gaussian matrices of variance 1 and sizes dims[i] x dims[i + 1].
inline std::vector<Matrix> gaussian_chain(const std::vector<int64_t>& dims, std::mt19937_64& engine) {
    std::vector<Matrix> factors;
    for (size_t i = 1; i < dims.size(); ++i) factors.push_back(gaussian(dims[i - 1], dims[i], engine));
    return factors;
}

/// Returns op(a) op(b); op transposes or not.
inline Matrix multiply(const Matrix& a, const Matrix& b, bool transpose_a = false, bool transpose_b = false) {
    const int64_t m = transpose_a ? a.cols : a.rows, k = transpose_a ? a.rows : a.cols;
    const int64_t n = transpose_b ? b.rows : b.cols;
    Matrix c{m, n, std::vector<double>(static_cast<size_t>(m * n))};
    cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
                transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(m), static_cast<int>(n),
                static_cast<int>(k), 1, a.values.data(), static_cast<int>(a.cols), b.values.data(),
                static_cast<int>(b.cols), 0, c.values.data(), static_cast<int>(n));
    return c;
}

/// Eigenvalues of a symmetric matrix, descending.
inline std::vector<double> eigenvalues(Matrix m) {
    std::vector<double> result(static_cast<size_t>(m.rows));
    const int n = static_cast<int>(m.rows);
    EXPECT_EQ(LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'N', 'L', n, m.values.data(), n, result.data()), 0);
    std::reverse(result.begin(), result.end());
    return result;
}

/// The nonzero eigenvalues of M M^T, where M is the product of `factors`. They are the eigenvalues of
/// L^T (Q Q^T) L with P^T P = L L^T, where M = P Q is cut at its narrowest dimension.
inline std::vector<double> product_spectrum(const std::vector<Matrix>& factors) {
    size_t cut = 0;
    int64_t narrowest = factors[0].rows;
    for (size_t i = 0; i < factors.size(); ++i)
        if (factors[i].cols < narrowest) {
            narrowest = factors[i].cols;
            cut = i + 1;
        }
    const auto product = [&](size_t from, size_t to) {
        Matrix m = factors[from];
        for (size_t i = from + 1; i < to; ++i) m = multiply(m, factors[i]);
        return m;
    };
    if (cut == factors.size()) {
        const Matrix m = product(0, cut);
        return eigenvalues(multiply(m, m, true));
    }
    const Matrix right = product(cut, factors.size());
    Matrix gram = multiply(right, right, false, true);
    if (cut > 0) {
        const Matrix left = product(0, cut);
        Matrix lower = multiply(left, left, true);
        const int n = static_cast<int>(narrowest);
        EXPECT_EQ(LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', n, lower.values.data(), n), 0);
        for (int64_t i = 0; i < n; ++i) std::fill_n(lower.values.begin() + i * n + i + 1, n - i - 1, 0.0);
        gram = multiply(multiply(lower, gram, true), lower);
    }
    return eigenvalues(gram);
}

/// The lambda at which a law's distribution function is p, to the last bit.
template <typename Law>
double quantile(const Law& law, double p) {
    double lo = law.lower_edge(), hi = law.upper_edge();
    for (double middle = lo + (hi - lo) / 2; middle > lo && middle < hi; middle = lo + (hi - lo) / 2)
        (law.cdf(middle) < p ? lo : hi) = middle;
    return hi;
}

/// Nodes and weights of Gauss-Legendre quadrature on [a, b].
struct Quadrature {
    std::vector<double> nodes, weights;
    Quadrature(unsigned n, double a, double b) {
        for (unsigned i = 0; i < n; ++i) {
            double x = std::cos(std::numbers::pi * (i + 0.75) / (n + 0.5)), slope = 0;
            for (int step = 0; step < 20; ++step) {
                const double p = std::legendre(n, x);
                slope = n * (x * p - std::legendre(n - 1, x)) / (x * x - 1);
                x -= p / slope;
            }
            nodes.push_back((a + b) / 2 + (b - a) / 2 * x);
            weights.push_back((b - a) / ((1 - x * x) * slope * slope));
        }
    }
    template <typename F>
    double integrate(F&& f) const {
        double sum = 0;
        for (size_t i = 0; i < nodes.size(); ++i) sum += weights[i] * f(nodes[i]);
        return sum;
    }
};

}  // namespace pastur::test
