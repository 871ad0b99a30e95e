#pragma once
// Dense fp64 matrices of the CPU's solvers, by OpenBLAS and LAPACK on the calling thread.
#include <lapacke.h>

#include <optional>
#include <string>
#include <vector>

#include "diag/spectrum.h"

namespace pastur::dense {

/// Row-major doubles. op() of them is the transpose when `transposed`.
struct Matrix {
    std::vector<double> values;
    int64_t rows = 0, columns = 0;
    bool transposed = false;

    int64_t op_rows() const { return transposed ? columns : rows; }
    int64_t op_columns() const { return transposed ? rows : columns; }
};

inline int narrow(int64_t value) {
    return static_cast<int>(value);
}

/// op(a) op(b).
Matrix multiply(const Matrix& a, const Matrix& b);
/// op(A) op(A)^T, both triangles.
Matrix gram(const Matrix& a);
/// The product of factors [begin, end), from the left.
Matrix multiply_chain(std::vector<Matrix>& factors, size_t begin, size_t end);

/// The factors of one item of a product in fp64, with what `draw` puts in their place, and the variances of their
/// entries before.
std::vector<Matrix> load_factors(const FactorProduct& product, int64_t item,
                                 const std::optional<FactorDraw>& draw, std::vector<double>& variances);

/// Why a matrix has no eigenvalues.
struct Unsolved {
    Spectrum::Status status;
    std::string reason = {};
};
/// Throws Unsolved (kNonFinite).
void check_finite(const Matrix& matrix);
/// Throws Unsolved (kSolverFailed) unless LAPACK's info is 0.
void check_info(const char* routine, lapack_int info);

/// B with B B^T = G for a positive semidefinite G of any rank. Throws Unsolved.
Matrix square_root(const Matrix& g);

}  // namespace pastur::dense
