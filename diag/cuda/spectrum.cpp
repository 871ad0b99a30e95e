// Spectra by cuBLAS and cuSOLVER in fp64, in the background of training: on a stream of the lowest priority,
// with its own handles and memory. First the factors become symmetric matrices, as many groups (the heads of
// a layer) at once as the scratch memory holds; then the matrices of all groups are solved at once.
#include "diag/spectrum.h"

#include <algorithm>
#include <utility>

#include "diag/cuda/spectrum_kernels.h"
#include "diag/cuda/spectrum_scratch.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {
namespace {

int64_t scratch_bytes(std::span<const FactorProduct> products, DenseSolvers& solvers) {
    int64_t largest = 0;
    for (const FactorProduct& product : products)
        largest = std::max(largest, SpectrumScratch(nullptr, product, solvers).bytes);
    return largest;
}

class CudaSpectrumSolver final : public SpectrumSolver {
  public:
    CudaSpectrumSolver(CudaContext& ctx, std::span<const FactorProduct> products,
                       const SolverOptions& options)
        : device_(ctx.handles().device) {
        CUDA_CHECK(cudaSetDevice(device_));
        open(ctx);
        solvers_ = std::make_unique<DenseSolvers>(stream_, options);
        scratch_ = allocate(ctx, scratch_bytes(products, *solvers_));
    }

    ~CudaSpectrumSolver() override {
        CUDA_CHECK_LOG(cudaSetDevice(device_));
        if (stream_) CUDA_CHECK_LOG(cudaStreamSynchronize(stream_));
        solvers_.reset();
        products_.reset();
        if (ready_) CUDA_CHECK_LOG(cudaEventDestroy(ready_));
        if (stream_) CUDA_CHECK_LOG(cudaStreamDestroy(stream_));
    }

    void prepare(Context& ctx, std::span<const FactorProduct> products) override {
        CUDA_CHECK(cudaSetDevice(device_));
        int64_t widest = 0;
        for (const FactorProduct& product : products)
            for (const Factor& factor : product.factors) widest = std::max(widest, factor.columns);
        const Buffer zeros = allocate(ctx, widest * size_of(DType::kF32));
        CUDA_CHECK(cudaMemsetAsync(zeros.data(), 0, static_cast<size_t>(zeros.bytes()), stream_));
        bool draws_are_prepared = false;
        for (FactorProduct product : products) {
            product.items = SpectrumScratch(nullptr, product, *solvers_).groups_at_once * product.group;
            for (Factor& factor : product.factors) {
                const auto copies = static_cast<size_t>(product.copies(factor));
                const auto* zero = reinterpret_cast<const float*>(zeros.data());
                factor.sources.resize(copies * static_cast<size_t>(factor.rows * factor.sources_per_row()));
                for (const float*& source : factor.sources) source = source ? zero : nullptr;
                if (!factor.gains.empty()) factor.gains.assign(copies, zero);
                if (!factor.row_gains.empty())
                    factor.row_gains.assign(copies * static_cast<size_t>(factor.rows), zero);
            }
            // solve() meets any other error again and flags its spectra.
            solve_or_flag(product,
                          [&](std::vector<Spectrum>& spectra) { solve_product(spectra, product, {}); });
            if (std::exchange(draws_are_prepared, true))
                continue;  // their kernels do not depend on the sizes
            solve_or_flag(product, [&](std::vector<Spectrum>& spectra) {
                solve_product(spectra, product, FactorDraw{FactorDraw::Kind::kProfile, {}});
            });
        }
    }

    void follow(Context& ctx) override {
        CudaHandles& handles = std::get<CudaContext>(ctx).handles();
        CUDA_CHECK(cudaSetDevice(device_));
        CUDA_CHECK(cudaEventRecord(ready_, handles.stream));
    }

    std::vector<std::vector<Spectrum>> solve(std::span<const FactorProduct> products,
                                             const std::optional<FactorDraw>& draw) override {
        std::vector<std::vector<Spectrum>> spectra;
        for (const FactorProduct& product : products)
            spectra.push_back(solve_or_flag(
                product, [&](std::vector<Spectrum>& mine) { solve_product(mine, product, draw); }));
        return spectra;
    }

  private:
    void open(CudaContext& ctx) {
        int least = 0, greatest = 0;
        CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
        CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, least));
        CUDA_CHECK(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming));
        products_ = std::make_unique<BatchedProducts>(ctx, stream_);
    }

    /// `from` is pageable, so it has been read when this returns.
    template <typename T>
    void send(T* to, const std::vector<T>& from) {
        CUDA_CHECK(
            cudaMemcpyAsync(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice, stream_));
    }
    template <typename T>
    std::vector<T> fetch(const T* from, int64_t count) {
        std::vector<T> to(static_cast<size_t>(count));
        CUDA_CHECK(cudaMemcpyAsync(to.data(), from, to.size() * sizeof(T), cudaMemcpyDeviceToHost, stream_));
        return to;
    }

    /// Copies the factors' descriptions to the device.
    void send_tables(const SpectrumScratch& scratch, const FactorProduct& product) {
        for (size_t i = 0; i < product.factors.size(); ++i) {
            const Factor& factor = product.factors[i];
            const FactorTables& tables = scratch.factors[i];
            const FactorRows rows(factor);
            CUDA_CHECK(cudaMemcpyAsync(tables.sources, factor.sources.data(),
                                       factor.sources.size() * sizeof(const float*), cudaMemcpyHostToDevice,
                                       stream_));
            if (!factor.gains.empty())
                CUDA_CHECK(cudaMemcpyAsync(tables.gains, factor.gains.data(),
                                           factor.gains.size() * sizeof(const float*), cudaMemcpyHostToDevice,
                                           stream_));
            if (!factor.rotations.empty()) send(tables.rotations, factor.rotations);
            if (!factor.row_gains.empty())
                CUDA_CHECK(cudaMemcpyAsync(tables.row_gains, factor.row_gains.data(),
                                           factor.row_gains.size() * sizeof(const float*),
                                           cudaMemcpyHostToDevice, stream_));
            send(tables.slots, rows.slots);
            send(tables.stored, rows.stored);
        }
    }

    /// The factors of `extent.groups` groups from number `first` on.
    std::vector<Batch> load_groups(const SpectrumScratch& scratch, const FactorProduct& product,
                                   int64_t first, const Extent& extent,
                                   const std::optional<FactorDraw>& draw) {
        std::vector<Batch> batches;
        for (size_t i = 0; i < product.factors.size(); ++i) {
            const Factor& factor = product.factors[i];
            const FactorTables& tables = scratch.factors[i];
            const int64_t copy = factor.shared ? first : first * extent.group;
            DeviceFactor load{};
            load.sources = tables.sources + copy * factor.rows * factor.sources_per_row();
            load.gains = factor.gains.empty() ? nullptr : tables.gains + copy;
            load.slots = tables.slots;
            load.row_gains = factor.row_gains.empty() ? nullptr : tables.row_gains + copy * factor.rows;
            load.scale = factor.scale;
            load.stored = tables.stored;
            load.copies = factor.shared ? extent.groups : extent.items();
            load.rows = factor.rows;
            load.columns = factor.columns;
            load.weight_columns = factor.weight_columns();
            load.terms = factor.terms;
            load.pieces = factor.pieces;
            load.rotations = tables.rotations;
            load.rotation_count = std::ssize(factor.rotations);
            load.stored_rows = static_cast<int64_t>(FactorRows(factor).stored.size());
            load.shuffled = draw && draw->kind == FactorDraw::Kind::kShuffled;
            load.key = draw ? draw->key : DrawKey{};
            load.index = i;
            load.first_copy = product.first_copy(factor) + copy;
            load_factor(stream_, tables.values, tables.moments + 2 * kMomentParts * copy, load);
            if (draw && draw->kind == FactorDraw::Kind::kProfile)
                draw_from_profile(stream_, tables.values, tables.profile, load);
            if (load.rotation_count > 0) rotate_rows(stream_, tables.values, load);
            batches.push_back({tables.values, factor.rows, factor.columns, factor.shared && extent.group > 1,
                               factor.transposed});
        }
        return batches;
    }

    /// P and S S^T of the items' M = P^T S; the latter in `matrices` [items, n, n] where P is the identity. flags [items]
    /// = 1 where S S^T is not finite.
    SplitForms split(const SpectrumScratch& scratch, const FactorProduct& product,
                     const std::vector<Batch>& factors, const Extent& extent, double* matrices,
                     int32_t* flags) {
        const ChainPlan plan(product);
        SplitForms forms;
        std::vector<Batch> left,
            right(factors.begin() + static_cast<std::ptrdiff_t>(plan.bottleneck), factors.end());
        for (size_t i = plan.bottleneck; i-- > 0;) left.push_back(factors[i].transpose());
        if (!left.empty()) forms.p = products_->multiply_chain(left, scratch.left, extent);
        if (!right.empty()) {
            forms.g = products_->gram(left.empty() ? matrices : scratch.s,
                                      products_->multiply_chain(right, scratch.right, extent), extent);
            zero_nonfinite(stream_, forms.g.data, flags, extent.items(), plan.n);
        }
        return forms;
    }

    /// matrices [items, n, n] = symmetric matrices with the eigenvalues of the items' M M^T; flags [items] =
    /// 1 where one is not finite.
    void form(const SpectrumScratch& scratch, const SplitForms& forms, int64_t n, const Extent& extent,
              double* matrices, int32_t* flags) {
        if (!forms.p.data) return;
        const int64_t items = extent.items();
        if (!forms.g.data) {
            products_->gram(matrices, forms.p, extent);
        } else {
            const Batch p = products_->gram(scratch.p, forms.p, extent);
            zero_nonfinite(stream_, scratch.p, flags, items, n);
            solvers_->cholesky.solve(scratch.root, scratch.s, n, items, scratch.cholesky);
            const Batch root{scratch.root, n, n};  // B^T
            products_->multiply(matrices, products_->multiply(scratch.half, root, p, extent),
                                root.transpose(), extent);
        }
        zero_nonfinite(stream_, matrices, flags, items, n);
    }

    /// The leading vectors of the items from number `first` on.
    void find_vectors(std::vector<Spectrum>& spectra, const SpectrumScratch& scratch,
                      const FactorProduct& product, const SplitForms& forms, const Extent& extent,
                      int64_t first) {
        CudaSubspaceBlocks blocks(stream_, *products_, forms, scratch.subspaces, extent,
                                  block_shape(product, extent.items()));
        std::vector<Subspace> found = leading_eigenvectors(blocks, product.leading_vectors);
        for (Subspace& subspace : found) spectra[static_cast<size_t>(first++)].leading = std::move(subspace);
    }

    void solve_product(std::vector<Spectrum>& spectra, const FactorProduct& product,
                       const std::optional<FactorDraw>& draw) {
        CUDA_CHECK(cudaSetDevice(device_));
        CUDA_CHECK(cudaStreamWaitEvent(stream_, ready_));
        const SpectrumScratch scratch(scratch_.data(), product, *solvers_);
        const int64_t n = product.count(), items = product.items, groups = items / product.group;
        send_tables(scratch, product);
        CUDA_CHECK(cudaMemsetAsync(scratch.flags, 0, static_cast<size_t>(items) * sizeof(int32_t), stream_));
        for (int64_t first = 0; first < groups; first += scratch.groups_at_once) {
            const Extent extent{std::min(scratch.groups_at_once, groups - first), product.group};
            const int64_t item = first * product.group;
            double* const matrices = scratch.matrices + item * n * n;
            int32_t* const flags = scratch.flags + item;
            const SplitForms forms =
                split(scratch, product, load_groups(scratch, product, first, extent, draw), extent, matrices,
                      flags);
            if (product.leading_vectors > 0 && !draw)
                find_vectors(spectra, scratch, product, forms, extent, item);
            form(scratch, forms, n, extent, matrices, flags);
        }
        solvers_->eigensolver.solve(scratch.eigenvalues, scratch.infos, scratch.matrices, n, items,
                                    scratch.eigensolver, scratch.eigensolver_bytes);
        collect(spectra, scratch, product);
    }

    void collect(std::vector<Spectrum>& spectra, const SpectrumScratch& scratch,
                 const FactorProduct& product) {
        const int64_t n = product.count(), items = product.items;
        const std::vector<double> eigenvalues = fetch(scratch.eigenvalues, items * n);
        const std::vector<int32_t> flags = fetch(scratch.flags, items), infos = fetch(scratch.infos, items);
        std::vector<std::vector<double>> moments;
        for (size_t i = 0; i < product.factors.size(); ++i)
            moments.push_back(
                fetch(scratch.factors[i].moments, 2 * kMomentParts * product.copies(product.factors[i])));
        CUDA_CHECK(cudaStreamSynchronize(stream_));
        for (int64_t item = 0; item < items; ++item) {
            Spectrum& spectrum = spectra[static_cast<size_t>(item)];
            for (size_t i = 0; i < product.factors.size(); ++i) {
                const Factor& factor = product.factors[i];
                const auto copy = static_cast<size_t>(factor.shared ? item / product.group : item);
                const auto count =
                    static_cast<int64_t>(FactorRows(factor).stored.size()) * factor.weight_columns();
                double sum = 0, squares = 0;
                for (size_t part = copy * kMomentParts; part < (copy + 1) * kMomentParts; ++part) {
                    sum += moments[i][2 * part];
                    squares += moments[i][2 * part + 1];
                }
                spectrum.variances.push_back(variance_from_sums(sum, squares, count));
            }
            if (flags[static_cast<size_t>(item)] != 0) {
                spectrum.status = Spectrum::Status::kNonFinite;
            } else if (const int32_t info = infos[static_cast<size_t>(item)]; info != 0) {
                spectrum.status = Spectrum::Status::kSolverFailed;
                spectrum.reason = fmt::format("cuSOLVER: devInfo {}", info);
            } else {
                spectrum.eigenvalues.assign(eigenvalues.begin() + item * n,
                                            eigenvalues.begin() + (item + 1) * n);
                finish_eigenvalues(spectrum.eigenvalues);
            }
            if (spectrum.status != Spectrum::Status::kOk) spectrum.leading = {};
        }
    }

    int device_;
    cudaStream_t stream_ = nullptr;
    cudaEvent_t ready_ = nullptr;
    std::unique_ptr<BatchedProducts> products_;
    Buffer scratch_;
    std::unique_ptr<DenseSolvers> solvers_;
};

}  // namespace

std::unique_ptr<SpectrumSolver> make_spectrum_solver(CudaContext& ctx,
                                                     std::span<const FactorProduct> products,
                                                     const SolverOptions& options) {
    return std::make_unique<CudaSpectrumSolver>(ctx, products, options);
}

int64_t solver_bytes(CudaContext& ctx, std::span<const FactorProduct> products,
                     const SolverOptions& options) {
    CUDA_CHECK(cudaSetDevice(ctx.handles().device));
    DenseSolvers solvers(ctx.handles().stream, options);
    return BatchedProducts::kWorkspaceBytes + scratch_bytes(products, solvers);
}

}  // namespace pastur
