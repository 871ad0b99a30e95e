#include "engine/convert/stages/eigen.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>

#include "kernels/base/error.h"

namespace pastur::convert {
namespace {

using dense::narrow;

void check_finite(const double* values, size_t count) {
    if (!std::all_of(values, values + count, [](double x) { return std::isfinite(x); }))
        fail(
            ExitCode::kNonFinite,
            "the model's activations on the calibration text are not finite: expected a model that evaluates");
}

void check_info(const char* routine, lapack_int info) {
    if (info != 0) fail(ExitCode::kOther, "LAPACK's {} failed with info {}", routine, info);
}

}  // namespace

Matrix zeros(int64_t rows, int64_t columns) {
    return {std::vector<double>(static_cast<size_t>(rows * columns)), rows, columns};
}

Matrix rows_of(const Matrix& matrix, int64_t begin, int64_t count) {
    const double* first = row_of(matrix, begin);
    return {std::vector<double>(first, first + count * matrix.columns), count, matrix.columns};
}

Matrix moment_of(const Matrix& w, const Matrix& moment) {
    Matrix transposed = w;
    transposed.transposed = true;
    return dense::multiply(dense::multiply(w, moment), transposed);
}

double energy_of(const Matrix& w, const Matrix& moment) {
    const Matrix half = dense::multiply(w, moment);
    double energy = 0;
    for (size_t i = 0; i < w.values.size(); ++i) energy += half.values[i] * w.values[i];
    return energy;
}

SymmetricEigen eigen_symmetric(Matrix a) {
    check_finite(a.values.data(), a.values.size());
    const int64_t n = a.rows;
    std::vector<double> ascending(static_cast<size_t>(n));
    // Column-major, so row e of the result is an eigenvector.
    check_info("dsyevd", LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', narrow(n), a.values.data(), narrow(n),
                                        ascending.data()));
    SymmetricEigen eigen{{ascending.rbegin(), ascending.rend()}, zeros(n, n)};
    for (int64_t e = 0; e < n; ++e)
        for (int64_t i = 0; i < n; ++i) row_of(eigen.vectors, i)[e] = row_of(a, n - 1 - e)[i];
    return eigen;
}

HermitianEigen eigen_hermitian(ComplexMatrix a) {
    check_finite(reinterpret_cast<const double*>(a.values.data()), 2 * a.values.size());
    const int64_t n = a.rows;
    // LAPACK reads columns, where these are rows: the transpose of a Hermitian matrix is its conjugate.
    for (std::complex<double>& value : a.values) value = std::conj(value);
    std::vector<double> ascending(static_cast<size_t>(n));
    check_info("zheevd", LAPACKE_zheevd(LAPACK_COL_MAJOR, 'V', 'L', narrow(n),
                                        reinterpret_cast<lapack_complex_double*>(a.values.data()), narrow(n),
                                        ascending.data()));
    HermitianEigen eigen{{ascending.rbegin(), ascending.rend()}, a};
    for (int64_t e = 0; e < n; ++e)
        for (int64_t i = 0; i < n; ++i) eigen.vectors.at(i, e) = a.at(n - 1 - e, i);
    return eigen;
}

Matrix cholesky(Matrix s, double ridge) {
    check_finite(s.values.data(), s.values.size());
    const int64_t n = s.rows;
    double trace = 0;
    for (int64_t i = 0; i < n; ++i) trace += row_of(s, i)[i];
    for (int64_t i = 0; i < n; ++i) row_of(s, i)[i] += ridge * trace / static_cast<double>(n);
    check_info("dpotrf", LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', narrow(n), s.values.data(), narrow(n)));
    for (int64_t i = 0; i < n; ++i) std::fill(row_of(s, i) + i + 1, row_of(s, i) + n, 0.0);
    return s;
}

namespace {

void divide(CBLAS_SIDE side, const Matrix& lower, Matrix& x) {
    cblas_dtrsm(CblasRowMajor, side, CblasLower, CblasNoTrans, CblasNonUnit, narrow(x.rows),
                narrow(x.columns), 1, lower.values.data(), narrow(lower.columns), x.values.data(),
                narrow(x.columns));
}

}  // namespace

Matrix divide_right(Matrix x, const Matrix& lower) {
    divide(CblasRight, lower, x);
    return x;
}

Matrix divide_left(const Matrix& lower, Matrix x) {
    divide(CblasLeft, lower, x);
    return x;
}

}  // namespace pastur::convert
