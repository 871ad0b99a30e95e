// Spectra by OpenBLAS and LAPACK: threads work on different matrices and OpenBLAS uses one thread per matrix,
// so the bits do not depend on the number of threads.
#include "diag/spectrum.h"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "kernels/base/threads.h"
#include "kernels/cpu/blas_memory.h"

namespace pastur {
namespace {

/// Row-major doubles. op() of them is the transpose when `transposed`.
struct Matrix {
    std::vector<double> values;
    int64_t rows = 0, columns = 0;
    bool transposed = false;

    int64_t op_rows() const { return transposed ? columns : rows; }
    int64_t op_columns() const { return transposed ? rows : columns; }
};

blasint narrow(int64_t value) {
    return static_cast<blasint>(value);
}

CBLAS_TRANSPOSE operation(const Matrix& matrix) {
    return matrix.transposed ? CblasTrans : CblasNoTrans;
}

/// op(a) op(b).
Matrix multiply(const Matrix& a, const Matrix& b) {
    Matrix c{{}, a.op_rows(), b.op_columns()};
    c.values.resize(static_cast<size_t>(c.rows * c.columns));
    cblas_dgemm(CblasRowMajor, operation(a), operation(b), narrow(c.rows), narrow(c.columns),
                narrow(a.op_columns()), 1, a.values.data(), narrow(a.columns), b.values.data(),
                narrow(b.columns), 0, c.values.data(), narrow(c.columns));
    return c;
}

/// op(A) op(A)^T, both triangles.
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

/// A copy of a factor in fp64, and the variance of its entries.
Matrix load(const Factor& factor, int64_t copy, uint64_t index, const std::optional<DrawKey>& shuffle,
            double& variance) {
    const int64_t width = factor.weight_columns();
    Matrix out{std::vector<double>(static_cast<size_t>(factor.rows * factor.columns)), factor.rows,
               factor.columns, factor.transposed};
    const float* const* sources = factor.sources.data() + copy * factor.rows * factor.terms;
    const float* gain = factor.gains.empty() ? nullptr : factor.gains[static_cast<size_t>(copy)];
    const FactorRows rows(factor);
    for (int64_t i = 0; i < factor.rows; ++i) {
        const int32_t slot = rows.slots[static_cast<size_t>(i)];
        if (slot < 0) out.values[static_cast<size_t>(i * factor.columns - 1 - slot)] = 1;
    }
    const auto count = static_cast<int64_t>(rows.stored.size()) * width;
    /// Stored number `i`, in the order of rows, terms and columns.
    const auto stored_number = [&](int64_t i) {
        const int64_t row = rows.stored[static_cast<size_t>(i / (factor.terms * width))];
        const int64_t term = i / width % factor.terms, column = i % width;
        const auto value = static_cast<double>(sources[row * factor.terms + term][column]);
        return gain ? value * static_cast<double>(gain[column]) : value;
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

/// Computes root = B with B B^T = G for a positive semidefinite G of any rank. Returns LAPACK's info.
lapack_int square_root(const Matrix& g, Matrix& root) {
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
    if (info < 0) return info;
    root = {std::vector<double>(static_cast<size_t>(n * n)), n, n};
    for (int64_t i = 0; i < n; ++i) {
        const int64_t row = pivots[static_cast<size_t>(i)] - 1;
        for (int64_t j = 0; j <= i && j < rank; ++j)
            root.values[static_cast<size_t>(row * n + j)] = factor[static_cast<size_t>(j * n + i)];
    }
    return 0;
}

/// The product of factors [begin, end), from the left.
Matrix multiply_chain(std::vector<Matrix>& factors, size_t begin, size_t end) {
    Matrix product = std::move(factors[begin]);
    for (size_t i = begin + 1; i < end; ++i) product = multiply(product, factors[i]);
    return product;
}

/// Why a matrix has no eigenvalues.
struct Unsolved {
    Spectrum::Status status;
    std::string reason = {};
};

void check_finite(const Matrix& matrix) {
    const bool finite =
        std::all_of(matrix.values.begin(), matrix.values.end(), [](double x) { return std::isfinite(x); });
    if (!finite) throw Unsolved{Spectrum::Status::kNonFinite};
}

void check_info(const char* routine, lapack_int info) {
    if (info != 0) throw Unsolved{Spectrum::Status::kSolverFailed, fmt::format("{}: info {}", routine, info)};
}

/// The symmetric matrix whose eigenvalues are the nonzero ones of M M^T.
Matrix symmetric_form(std::vector<Matrix> factors, size_t bottleneck) {
    std::vector<Matrix> left;  // (F_1 ... F_b)^T = F_b^T ... F_1^T
    for (size_t i = bottleneck; i-- > 0;) {
        left.push_back(std::move(factors[i]));
        left.back().transposed = !left.back().transposed;
    }
    if (left.empty()) return gram(multiply_chain(factors, 0, factors.size()));
    const Matrix p = gram(multiply_chain(left, 0, left.size()));
    if (bottleneck == factors.size()) return p;
    const Matrix s = gram(multiply_chain(factors, bottleneck, factors.size()));
    check_finite(p);
    check_finite(s);
    Matrix root;
    check_info("dpstrf", square_root(s, root));
    const Matrix half = multiply(p, root);
    root.transposed = true;
    return multiply(root, half);
}

std::vector<double> eigenvalues_of(Matrix symmetric) {
    check_finite(symmetric);
    const lapack_int n = narrow(symmetric.rows);
    std::vector<double> eigenvalues(static_cast<size_t>(n));
    check_info("dsyevd",
               LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'N', 'L', n, symmetric.values.data(), n, eigenvalues.data()));
    finish_eigenvalues(eigenvalues);
    return eigenvalues;
}

Spectrum solve_item(const FactorProduct& product, int64_t item, const std::optional<FactorDraw>& draw) {
    Spectrum spectrum;
    std::optional<DrawKey> shuffle;
    if (draw && draw->kind == FactorDraw::Kind::kShuffled) shuffle = draw->key;
    std::vector<Matrix> factors;
    for (size_t i = 0; i < product.factors.size(); ++i) {
        const Factor& factor = product.factors[i];
        const int64_t copy = factor.shared ? item / product.group : item;
        factors.push_back(load(factor, copy, i, shuffle, spectrum.variances.emplace_back()));
        if (draw && draw->kind == FactorDraw::Kind::kProfile)
            draw_from_profile(factors.back(), factor, product.first_copy(factor) + copy, i, draw->key);
    }
    try {
        spectrum.eigenvalues =
            eigenvalues_of(symmetric_form(std::move(factors), ChainPlan(product).bottleneck));
    } catch (const Unsolved& why) {
        spectrum.status = why.status;
        spectrum.reason = why.reason;
    }
    return spectrum;
}

/// An upper bound of the doubles that solve_item() holds at once.
int64_t item_doubles(const FactorProduct& product) {
    const ChainPlan plan(product);
    int64_t doubles = 4 * plan.n * plan.n + 2 * plan.n * (plan.widest_left + plan.widest_right);
    for (const Factor& factor : product.factors) doubles += factor.rows * factor.columns;
    return doubles;
}

class CpuSpectrumSolver final : public SpectrumSolver {
  public:
    /// The thread that calls solve() may get threads of its own from OpenMP, next to those of other ops.
    explicit CpuSpectrumSolver(int threads) : threads_(threads) {
        constexpr int kOthers = 2;  // that training starts later, to read data and to write checkpoints
        check_threads(threads + kOthers);
        reserve_blas_buffers(2 * threads);
    }

    void prepare(Context&, std::span<const FactorProduct>) override {}
    void follow(Context&) override {}  // ops have finished when they return

    std::vector<std::vector<Spectrum>> solve(std::span<const FactorProduct> products,
                                             const std::optional<FactorDraw>& draw) override {
        struct Item {
            size_t product;
            int64_t index;
            int64_t cost;
        };
        std::vector<std::vector<Spectrum>> spectra;
        std::vector<Item> items;
        for (size_t p = 0; p < products.size(); ++p) {
            spectra.emplace_back(static_cast<size_t>(products[p].items));
            for (int64_t i = 0; i < products[p].items; ++i)
                items.push_back({p, i, item_doubles(products[p])});
        }
        // The largest first, so no thread starts one at the end.
        std::stable_sort(items.begin(), items.end(),
                         [](const Item& a, const Item& b) { return a.cost > b.cost; });
#pragma omp parallel for num_threads(threads_) schedule(dynamic)
        for (size_t i = 0; i < items.size(); ++i) {
            const Item& item = items[i];
            Spectrum& spectrum = spectra[item.product][static_cast<size_t>(item.index)];
            try {
                spectrum = solve_item(products[item.product], item.index, draw);
            } catch (const std::bad_alloc&) {
                spectrum = {Spectrum::Status::kSolverFailed, {}, "out of host memory", {}};
            }
        }
        return spectra;
    }

  private:
    int threads_;
};

}  // namespace

std::unique_ptr<SpectrumSolver> make_spectrum_solver(CpuContext& ctx, std::span<const FactorProduct>) {
    return std::make_unique<CpuSpectrumSolver>(ctx.threads());
}

int64_t solver_bytes(CpuContext& ctx, std::span<const FactorProduct> products) {
    int64_t largest = 0;
    for (const FactorProduct& product : products) largest = std::max(largest, item_doubles(product));
    return largest * ctx.threads() * size_of(DType::kF64);
}

}  // namespace pastur
