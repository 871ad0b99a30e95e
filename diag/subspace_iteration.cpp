#include "diag/subspace_iteration.h"

#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "diag/spectrum.h"

namespace pastur {
namespace {

constexpr int64_t kGuardedRows = 32;
constexpr int kCycles = 60;
constexpr double kTolerance = 1e-10;  ///< of a residual, over its eigenvalue
constexpr double kRounding = 1e-14;   ///< of a residual, over the largest eigenvalue
constexpr double kAccepted = 1e-12;   ///< the same after kCycles
constexpr double kZero = 1e-14;       ///< of an eigenvalue, over the largest
/// What a filter may do to the wanted part of a row: the unwanted grows at most this much over it.
constexpr double kGrowth = 1e5;

/// The Ritz values of one item, descending, and the norms of their residuals.
struct Ritz {
    const double* values;
    const double* residuals;
    int64_t rows;

    double largest() const { return values[0]; }
    bool settled_below(int64_t k, double rounding = kRounding) const {
        if (!(largest() > 0)) return true;
        for (int64_t i = 0; i < std::min(k, rows); ++i)
            if (values[i] > kZero * largest() &&
                !(residuals[i] <= kTolerance * values[i] + rounding * largest()))
                return false;
        return true;
    }
    /// The end of the interval that a filter damps.
    double damped() const { return std::max(values[rows - 1], 1e-12 * largest()); }
    /// Growth per degree at an eigenvalue x: the filter of degree m is about e^(m rate).
    double rate(double x) const { return std::acosh(std::max(2 * x / damped() - 1, 1.0)); }
    /// The degree that the residuals need, but at most the one at which the part of a larger eigenvector in the k-th
    /// row, at most its residual's share, grows to kGrowth of that row. A residual's norm is also what its eigenvalue
    /// may still rise by.
    int64_t degree(int64_t k) const {
        const double wanted = rate(values[std::min(k, rows) - 1]);
        double largest_share = 0;
        for (int64_t i = 0; i < std::min(k, rows); ++i)
            largest_share = std::max(largest_share, residuals[i] / values[i]);
        constexpr double kMargin = 10;
        double degree = kFilterSteps;
        if (wanted > 0)
            degree = std::min(degree, std::log(kMargin * largest_share / kTolerance) / wanted + 1);
        for (int64_t i = 0; i < std::min(k, rows); ++i) {
            const double share = std::clamp(residuals[i] / values[i], 1e-15, 1.0);
            const double faster = rate(values[i] + residuals[i]) - wanted;
            if (faster > 0) degree = std::min(degree, std::log(kGrowth / share) / faster);
        }
        return std::max<int64_t>(static_cast<int64_t>(degree), 1);
    }
    /// The scaled Chebyshev polynomial, 1 at the largest eigenvalue; `total` steps, the last ones of which do nothing.
    std::vector<FilterStep> steps(int64_t degree, int64_t total) const {
        const double half = damped() / 2, first = half / (largest() - half);
        double sigma = first;
        std::vector<FilterStep> list = {{sigma / half, -sigma, 0}};
        while (std::ssize(list) < degree) {
            const double next = 1 / (2 / first - sigma);
            list.push_back({2 * next / half, -2 * next, -sigma * next});
            sigma = next;
        }
        list.resize(static_cast<size_t>(total), {0, 1, 0});
        return list;
    }
};

/// values [rows] = the eigenvalues of a symmetric matrix [rows, rows], descending, and `matrix` = its eigenvectors as
/// rows. A matrix that is not finite has zeros.
void diagonalise(double* values, double* matrix, int64_t rows) {
    const auto n = static_cast<lapack_int>(rows);
    const bool finite = std::all_of(matrix, matrix + rows * rows, [](double x) { return std::isfinite(x); });
    // LAPACK's columns are the rows of this memory.
    if (!finite || LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', n, matrix, n, values) != 0) {
        std::fill(values, values + rows, 0.0);
        std::fill(matrix, matrix + rows * rows, 0.0);
        return;
    }
    std::reverse(values, values + rows);
    for (int64_t i = 0; i < rows / 2; ++i)
        std::swap_ranges(matrix + i * rows, matrix + (i + 1) * rows, matrix + (rows - 1 - i) * rows);
}

/// The filter of every item, in the order of SubspaceBlocks::filter().
std::vector<FilterStep> filter_steps(const std::vector<Ritz>& items, int64_t k) {
    std::vector<int64_t> degrees;
    for (const Ritz& ritz : items) degrees.push_back(ritz.settled_below(k) ? 0 : ritz.degree(k));
    const int64_t total = std::max<int64_t>(*std::max_element(degrees.begin(), degrees.end()), 1);
    std::vector<FilterStep> steps(static_cast<size_t>(total) * items.size(), {0, 1, 0});
    for (size_t i = 0; i < items.size(); ++i) {
        if (degrees[i] == 0) continue;
        const std::vector<FilterStep> own = items[i].steps(degrees[i], total);
        for (size_t step = 0; step < own.size(); ++step) steps[step * items.size() + i] = own[step];
    }
    return steps;
}

std::vector<double> keyed_block(int64_t rows, int64_t width) {
    std::vector<double> block(static_cast<size_t>(rows * width));
    for (size_t i = 0; i < block.size(); ++i) block[i] = profile_normal(profile_words({}, 0, 0, i));
    return block;
}

/// The first rows of an item's block: those wanted whose eigenvalues are above rounding.
Subspace subspace_of(const double* block, int64_t width, const Ritz& ritz, int64_t k) {
    Subspace subspace{0, width, {}};
    if (!ritz.settled_below(k, kAccepted)) return subspace;
    while (subspace.count < std::min(k, ritz.rows) &&
           ritz.values[subspace.count] > kZero * std::max(ritz.largest(), 0.0))
        ++subspace.count;
    subspace.vectors.assign(block, block + subspace.count * width);
    return subspace;
}

}  // namespace

int64_t block_rows(int64_t k, int64_t width) {
    return std::min(std::max(kGuardedRows, 2 * k), width);
}

std::vector<Subspace> leading_eigenvectors(SubspaceBlocks& blocks, int64_t k) {
    const auto [count, rows, width] = blocks.shape();
    std::vector<double> values(static_cast<size_t>(count * rows)), residuals;
    std::vector<Ritz> items;
    blocks.start(keyed_block(rows, width));
    blocks.orthonormalise();
    for (int cycle = 0;; ++cycle) {
        std::vector<double> forms = blocks.project();
        for (int64_t i = 0; i < count; ++i)
            diagonalise(values.data() + i * rows, forms.data() + i * rows * rows, rows);
        residuals = blocks.rotate(forms, values);
        items.clear();
        for (int64_t i = 0; i < count; ++i)
            items.push_back({values.data() + i * rows, residuals.data() + i * rows, rows});
        const bool settled =
            std::all_of(items.begin(), items.end(), [&](const Ritz& ritz) { return ritz.settled_below(k); });
        // One filter at least: CUDA's kernels are loaded by a solution for operators that are zero.
        if (cycle > 0 && (settled || cycle == kCycles)) break;
        blocks.filter(filter_steps(items, k));
        blocks.orthonormalise();
    }
    const std::vector<double> all = blocks.read();
    std::vector<Subspace> subspaces;
    for (int64_t i = 0; i < count; ++i)
        subspaces.push_back(
            subspace_of(all.data() + i * rows * width, width, items[static_cast<size_t>(i)], k));
    return subspaces;
}

}  // namespace pastur
