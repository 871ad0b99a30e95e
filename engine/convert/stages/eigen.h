#pragma once
// Eigenvectors and Cholesky factors of dense fp64 matrices, by LAPACK on the calling thread.
#include <complex>

#include "diag/cpu/dense_factors.h"

namespace pastur::convert {

using dense::Matrix;

/// Row-major.
struct ComplexMatrix {
    std::vector<std::complex<double>> values;
    int64_t rows = 0, columns = 0;
    std::complex<double>& at(int64_t row, int64_t column) {
        return values[static_cast<size_t>(row * columns + column)];
    }
    const std::complex<double>& at(int64_t row, int64_t column) const {
        return values[static_cast<size_t>(row * columns + column)];
    }
};

Matrix zeros(int64_t rows, int64_t columns);
inline double* row_of(Matrix& matrix, int64_t row) {
    return matrix.values.data() + row * matrix.columns;
}
inline const double* row_of(const Matrix& matrix, int64_t row) {
    return matrix.values.data() + row * matrix.columns;
}
/// Rows [begin, begin + count).
Matrix rows_of(const Matrix& matrix, int64_t begin, int64_t count);
/// W S W^T for a symmetric S: the second moment of W x where that of x is S.
Matrix moment_of(const Matrix& w, const Matrix& moment);
/// The trace of moment_of(w, moment).
double energy_of(const Matrix& w, const Matrix& moment);

/// Eigenvalues, descending, and the eigenvector of each as a column.
struct SymmetricEigen {
    std::vector<double> values;
    Matrix vectors;
};
/// Throws (kNonFinite) if a number is not finite, and (kOther) if LAPACK fails.
SymmetricEigen eigen_symmetric(Matrix a);

struct HermitianEigen {
    std::vector<double> values;
    ComplexMatrix vectors;
};
/// As eigen_symmetric(), of a complex Hermitian matrix; `a` must hold both triangles.
HermitianEigen eigen_hermitian(ComplexMatrix a);

/// The lower triangular L with L L^T = S + ridge mean(diag S) I. The ridge keeps directions of which S has no energy
/// apart from zero. Throws as eigen_symmetric() does.
Matrix cholesky(Matrix s, double ridge);
/// x L^-1.
Matrix divide_right(Matrix x, const Matrix& lower);
/// L^-1 x.
Matrix divide_left(const Matrix& lower, Matrix x);

}  // namespace pastur::convert
