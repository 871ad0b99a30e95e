#include "diag/subspace.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "diag/cpu/dense_factors.h"

namespace pastur {
namespace {

using namespace dense;

/// The last k eigenvalues of a symmetric matrix, ascending, and their eigenvectors [k, n].
struct Eigenpairs {
    std::vector<double> values, vectors;
};
Eigenpairs leading_eigenpairs(Matrix symmetric, int64_t k) {
    check_finite(symmetric);
    const lapack_int n = narrow(symmetric.rows), count = narrow(std::min(k, symmetric.rows));
    Eigenpairs pairs{std::vector<double>(static_cast<size_t>(n)),
                     std::vector<double>(static_cast<size_t>(n) * static_cast<size_t>(count))};
    std::vector<lapack_int> support(2 * static_cast<size_t>(count));
    lapack_int found = 0;
    check_info("dsyevr", LAPACKE_dsyevr(LAPACK_COL_MAJOR, 'V', 'I', 'L', n, symmetric.values.data(), n, 0, 0,
                                        n - count + 1, n, 0, &found, pairs.values.data(),
                                        pairs.vectors.data(), n, support.data()));
    pairs.values.resize(static_cast<size_t>(found));
    return pairs;
}

/// M = P^T S as in spectrum.h. With S S^T = B B^T, M M^T = W^T W for W = B^T P: an eigenvector y of W W^T with the
/// eigenvalue l gives the left singular vector W^T y / sqrt(l). Here they have the length sqrt(l) and ascend.
Subspace leading_vectors(std::vector<Matrix> factors, size_t bottleneck, int64_t k) {
    const int64_t width = factors.front().op_rows();
    if (bottleneck == 0) {
        Eigenpairs pairs = leading_eigenpairs(gram(multiply_chain(factors, 0, factors.size())), k);
        for (size_t i = 0; i < pairs.vectors.size(); ++i)
            pairs.vectors[i] *= std::sqrt(std::max(pairs.values[i / static_cast<size_t>(width)], 0.0));
        return {std::ssize(pairs.values), width, pairs.vectors};
    }
    std::vector<Matrix> left;
    for (size_t i = bottleneck; i-- > 0;) {
        left.push_back(std::move(factors[i]));
        left.back().transposed = !left.back().transposed;
    }
    Matrix w = multiply_chain(left, 0, left.size());
    if (bottleneck < factors.size()) {
        const Matrix s = gram(multiply_chain(factors, bottleneck, factors.size()));
        check_finite(s);
        Matrix root = square_root(s);
        root.transposed = true;
        w = multiply(root, w);
    }
    const Eigenpairs pairs = leading_eigenpairs(gram(w), k);
    const Matrix y{pairs.vectors, std::ssize(pairs.values), w.op_rows()};
    const Matrix vectors = multiply(y, w);
    return {vectors.rows, width, vectors.values};
}

}  // namespace

Subspace leading_left_vectors(const FactorProduct& product, int64_t item, int64_t k) {
    std::vector<double> variances;
    Subspace raw;
    try {
        raw = leading_vectors(load_factors(product, item, {}, variances), ChainPlan(product).bottleneck, k);
    } catch (const Unsolved&) {
        return {};
    }
    // From the largest singular value on. A vector of an eigenvalue at the rounding level has no direction.
    Subspace vectors{0, raw.width, {}};
    double longest = 0;
    for (int64_t i = raw.count; i-- > 0;) {
        const double* const row = raw.vectors.data() + i * raw.width;
        const double length = cblas_dnrm2(narrow(raw.width), row, 1);
        longest = std::max(longest, length);
        if (!(length > 1e-7 * longest)) break;
        for (int64_t j = 0; j < raw.width; ++j) vectors.vectors.push_back(row[j] / length);
        ++vectors.count;
    }
    return vectors;
}

double overlap(const Subspace& u, const Subspace& v) {
    if (u.count == 0 || v.count == 0 || u.width != v.width) return std::numeric_limits<double>::quiet_NaN();
    double squares = 0;
    for (int64_t i = 0; i < u.count; ++i)
        for (int64_t j = 0; j < v.count; ++j) {
            const double cosine = cblas_ddot(narrow(u.width), u.vectors.data() + i * u.width, 1,
                                             v.vectors.data() + j * v.width, 1);
            squares += cosine * cosine;
        }
    return squares / static_cast<double>(std::max(u.count, v.count));
}

}  // namespace pastur
