#include "diag/cpu/dense_factors.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace pastur::dense {
namespace {

CBLAS_TRANSPOSE operation(const Matrix& matrix) {
    return matrix.transposed ? CblasTrans : CblasNoTrans;
}

/// Replaces the stored entries of `values` by Gaussian numbers of their profile. `copy`: in the whole product.
void draw_from_profile(Matrix& values, const Factor& factor, int64_t copy, uint64_t index,
                       const DrawKey& key) {
    const int64_t width = factor.weight_columns();
    const std::vector<int32_t> stored = FactorRows(factor).stored;
    std::vector<double> rows(stored.size()), columns(static_cast<size_t>(width));
    double all = 0;
    for (size_t r = 0; r < stored.size(); ++r) {
        const double* const row = values.values.data() + stored[r] * factor.columns;
        for (size_t c = 0; c < columns.size(); ++c) {
            rows[r] += row[c] * row[c];
            columns[c] += row[c] * row[c];
        }
        all += rows[r];
    }
    for (size_t r = 0; r < stored.size(); ++r)
        for (size_t c = 0; c < columns.size(); ++c) {
            const uint64_t i = r * columns.size() + c;
            const double variance = all == 0 ? 0 : rows[r] * columns[c] / all;
            values.values[static_cast<size_t>(stored[r] * factor.columns) + c] =
                std::sqrt(variance) *
                profile_normal(profile_words(key, index, static_cast<uint64_t>(copy), i));
        }
}

void rotate_rows(Matrix& values, const Factor& factor) {
    for (const RotatedRows& pair : factor.rotations) {
        double* const first = values.values.data() + pair.first * factor.columns;
        double* const second = values.values.data() + pair.second * factor.columns;
        for (int64_t c = 0; c < factor.columns; ++c) {
            const double a = first[c], b = second[c];
            first[c] = pair.cosine * a - pair.sine * b;
            second[c] = pair.sine * a + pair.cosine * b;
        }
    }
}

/// A copy of a factor in fp64, and the variance of its entries.
Matrix load(const Factor& factor, int64_t copy, uint64_t index, const std::optional<DrawKey>& shuffle,
            double& variance) {
    const int64_t width = factor.weight_columns();
    Matrix out{std::vector<double>(static_cast<size_t>(factor.rows * factor.columns)), factor.rows,
               factor.columns, factor.transposed};
    const float* const* sources = factor.sources.data() + copy * factor.rows * factor.sources_per_row();
    const float* gain = factor.gains.empty() ? nullptr : factor.gains[static_cast<size_t>(copy)];
    const auto row_gain = [&](int64_t row) {
        if (factor.row_gains.empty()) return 1.0;
        const float* address = factor.row_gains[static_cast<size_t>(copy * factor.rows + row)];
        return address ? static_cast<double>(*address) : 1.0;
    };
    const FactorRows rows(factor);
    for (int64_t i = 0; i < factor.rows; ++i) {
        const int32_t slot = rows.slots[static_cast<size_t>(i)];
        if (slot < 0) out.values[static_cast<size_t>(i * factor.columns - 1 - slot)] = row_gain(i);
    }
    const auto count = static_cast<int64_t>(rows.stored.size()) * width;
    /// Stored number `i`, in the order of rows, terms and columns.
    const auto stored_number = [&](int64_t i) {
        const int64_t row = rows.stored[static_cast<size_t>(i / (factor.terms * width))];
        const int64_t term = i / width % factor.terms, column = i % width;
        const float* const* pieces = sources + (row * factor.terms + term) * factor.pieces;
        const auto value =
            static_cast<double>(pieces[column / factor.piece_columns()][column % factor.piece_columns()]);
        return (gain ? value * static_cast<double>(gain[column]) : value) * row_gain(row);
    };
    double sum = 0, squares = 0;
    for (size_t r = 0; r < rows.stored.size(); ++r) {
        double* const to = out.values.data() + rows.stored[r] * factor.columns;
        for (int64_t c = 0; c < width; ++c) {
            double value = 0;
            for (int64_t t = 0; t < factor.terms; ++t) {
                int64_t i = (static_cast<int64_t>(r) * factor.terms + t) * width + c;
                if (shuffle)
                    i = static_cast<int64_t>(shuffled_position(static_cast<uint64_t>(count * factor.terms),
                                                               *shuffle, index, static_cast<uint64_t>(i)));
                value += stored_number(i);
            }
            value *= factor.scale;
            to[c] = value;
            sum += value;
            squares += value * value;
        }
    }
    variance = variance_from_sums(sum, squares, count);
    return out;
}

}  // namespace

Matrix multiply(const Matrix& a, const Matrix& b) {
    Matrix c{{}, a.op_rows(), b.op_columns()};
    c.values.resize(static_cast<size_t>(c.rows * c.columns));
    cblas_dgemm(CblasRowMajor, operation(a), operation(b), narrow(c.rows), narrow(c.columns),
                narrow(a.op_columns()), 1, a.values.data(), narrow(a.columns), b.values.data(),
                narrow(b.columns), 0, c.values.data(), narrow(c.columns));
    return c;
}

Matrix gram(const Matrix& a) {
    const int64_t n = a.op_rows();
    Matrix g{std::vector<double>(static_cast<size_t>(n * n)), n, n};
    cblas_dsyrk(CblasRowMajor, CblasLower, operation(a), narrow(n), narrow(a.op_columns()), 1,
                a.values.data(), narrow(a.columns), 0, g.values.data(), narrow(n));
    double* values = g.values.data();
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < i; ++j) values[j * n + i] = values[i * n + j];
    return g;
}

Matrix multiply_chain(std::vector<Matrix>& factors, size_t begin, size_t end) {
    Matrix product = std::move(factors[begin]);
    for (size_t i = begin + 1; i < end; ++i) product = multiply(product, factors[i]);
    return product;
}

std::vector<Matrix> load_factors(const FactorProduct& product, int64_t item,
                                 const std::optional<FactorDraw>& draw, std::vector<double>& variances) {
    std::vector<Matrix> factors;
    std::optional<DrawKey> shuffle;
    if (draw && draw->kind == FactorDraw::Kind::kShuffled) shuffle = draw->key;
    for (size_t i = 0; i < product.factors.size(); ++i) {
        const Factor& factor = product.factors[i];
        const int64_t copy = factor.shared ? item / product.group : item;
        factors.push_back(load(factor, copy, i, shuffle, variances.emplace_back()));
        if (draw && draw->kind == FactorDraw::Kind::kProfile)
            draw_from_profile(factors.back(), factor, product.first_copy(factor) + copy, i, draw->key);
        rotate_rows(factors.back(), factor);
    }
    return factors;
}

void check_finite(const Matrix& matrix) {
    const bool finite =
        std::all_of(matrix.values.begin(), matrix.values.end(), [](double x) { return std::isfinite(x); });
    if (!finite) throw Unsolved{Spectrum::Status::kNonFinite};
}

void check_info(const char* routine, lapack_int info) {
    if (info != 0) throw Unsolved{Spectrum::Status::kSolverFailed, fmt::format("{}: info {}", routine, info)};
}

Matrix square_root(const Matrix& g) {
    const int64_t n = g.rows;
    std::vector<double> factor = g.values;
    std::vector<lapack_int> pivots(static_cast<size_t>(n));
    lapack_int rank = 0;
    double largest = 0;
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, factor[static_cast<size_t>(i * n + i)]);
    // The Schur complement after a pivot this small is below the rounding of G.
    const double tolerance = std::numeric_limits<double>::epsilon() * largest;
    const lapack_int info = LAPACKE_dpstrf(LAPACK_COL_MAJOR, 'L', narrow(n), factor.data(), narrow(n),
                                           pivots.data(), &rank, tolerance);
    if (info < 0) check_info("dpstrf", info);
    Matrix root{std::vector<double>(static_cast<size_t>(n * n)), n, n};
    for (int64_t i = 0; i < n; ++i) {
        const int64_t row = pivots[static_cast<size_t>(i)] - 1;
        for (int64_t j = 0; j <= i && j < rank; ++j)
            root.values[static_cast<size_t>(row * n + j)] = factor[static_cast<size_t>(j * n + i)];
    }
    return root;
}

}  // namespace pastur::dense
