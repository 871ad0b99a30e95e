// Spectra by OpenBLAS and LAPACK: threads work on different matrices and OpenBLAS uses one thread per matrix,
// so the bits do not depend on the number of threads.
#include "diag/spectrum.h"

#include <algorithm>
#include <new>

#include "diag/cpu/leading_vectors.h"
#include "diag/subspace_iteration.h"
#include "kernels/base/threads.h"
#include "kernels/cpu/blas_memory.h"

namespace pastur {
namespace {

using namespace dense;

/// The form of M = P^T S whose eigenvalues are the nonzero ones of M M^T.
SymmetricForm symmetric_form(std::vector<Matrix> factors, size_t bottleneck) {
    SymmetricForm form;
    std::vector<Matrix> left;  // (F_1 ... F_b)^T = F_b^T ... F_1^T
    for (size_t i = bottleneck; i-- > 0;) {
        left.push_back(std::move(factors[i]));
        left.back().transposed = !left.back().transposed;
    }
    if (left.empty()) {
        form.matrix = gram(multiply_chain(factors, 0, factors.size()));
        return form;
    }
    form.p = multiply_chain(left, 0, left.size());
    form.matrix = gram(form.p);
    if (bottleneck == factors.size()) return form;
    const Matrix s = gram(multiply_chain(factors, bottleneck, factors.size()));
    check_finite(form.matrix);
    check_finite(s);
    form.root = square_root(s);
    const Matrix half = multiply(form.matrix, form.root);
    form.root.transposed = true;
    form.matrix = multiply(form.root, half);
    form.root.transposed = false;
    return form;
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
    std::vector<Matrix> factors = load_factors(product, item, draw, spectrum.variances);
    try {
        const SymmetricForm form = symmetric_form(std::move(factors), ChainPlan(product).bottleneck);
        spectrum.eigenvalues = eigenvalues_of(form.matrix);
        if (product.leading_vectors > 0 && !draw)
            spectrum.leading = leading_vectors(form, product.leading_vectors);
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
    if (product.leading_vectors > 0) {
        constexpr int64_t kBlocks = 6;
        doubles += plan.n * plan.dims.front() +
                   kBlocks * block_rows(product.leading_vectors, plan.dims.front()) * plan.dims.front();
    }
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

std::unique_ptr<SpectrumSolver> make_spectrum_solver(CpuContext& ctx, std::span<const FactorProduct>,
                                                     const SolverOptions&) {
    return std::make_unique<CpuSpectrumSolver>(ctx.threads());
}

int64_t solver_bytes(CpuContext& ctx, std::span<const FactorProduct> products, const SolverOptions&) {
    int64_t largest = 0;
    for (const FactorProduct& product : products) largest = std::max(largest, item_doubles(product));
    return largest * ctx.threads() * size_of(DType::kF64);
}

}  // namespace pastur
