// Spectra by cuBLAS and cuSOLVER in fp64, in the background of training: on a stream of the lowest priority,
// with its own handles and memory. First the factors become symmetric matrices, as many groups (the heads of
// a layer) at once as the scratch memory holds; then the matrices of all groups are solved at once.
#include "diag/spectrum.h"

#include <cublas_v2.h>

#include <algorithm>
#include <utility>

#include "diag/cuda/spectrum_kernels.h"
#include "diag/cuda/spectrum_scratch.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {
namespace {

constexpr int64_t kBlasWorkspaceBytes = int64_t{32} << 20;  // NVIDIA's recommendation per stream on Hopper

/// The items that are processed at once: `groups` groups of `group` items each.
struct Extent {
    int64_t groups, group;
    int64_t items() const { return groups * group; }
};

/// Row-major doubles [rows, columns], one matrix per item or, when `shared`, per group. op() of them is the
/// transpose when `transposed`.
struct Batch {
    double* data = nullptr;
    int64_t rows = 0, columns = 0;
    bool shared = false, transposed = false;

    int64_t op_rows() const { return transposed ? columns : rows; }
    int64_t op_columns() const { return transposed ? rows : columns; }
    Batch transpose() const { return {data, rows, columns, shared, !transposed}; }
    int64_t stride() const { return shared ? 0 : rows * columns; }  ///< from item to item of a group
    Batch of_group(int64_t index, int64_t group) const {
        return {data + index * (shared ? 1 : group) * rows * columns, rows, columns, shared, transposed};
    }
};

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
        if (blas_) CUBLAS_CHECK_LOG(cublasDestroy(blas_));
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
        CUBLAS_CHECK(cublasCreate(&blas_));
        CUBLAS_CHECK(cublasSetStream(blas_, stream_));
        blas_workspace_ = allocate(ctx, kBlasWorkspaceBytes);
        CUBLAS_CHECK(
            cublasSetWorkspace(blas_, blas_workspace_.data(), static_cast<size_t>(kBlasWorkspaceBytes)));
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

    /// c = op(a) op(b) for every item. To cuBLAS, which is column-major, it is c^T = op(b)^T op(a)^T.
    Batch multiply(double* c, const Batch& a, const Batch& b, const Extent& extent) {
        const Batch out{c, a.op_rows(), b.op_columns()};
        // Where a factor is shared, one stride cannot lead both from item to item and from group to group.
        const bool by_group = a.shared || b.shared;
        for (int64_t i = 0; i < (by_group ? extent.groups : 1); ++i)
            multiply_strided(out.of_group(i, extent.group), a.of_group(i, extent.group),
                             b.of_group(i, extent.group), by_group ? extent.group : extent.items());
        return out;
    }

    void multiply_strided(const Batch& c, const Batch& a, const Batch& b, int64_t count) {
        const double one = 1, zero = 0;
        CUBLAS_CHECK(cublasDgemmStridedBatched(
            blas_, b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
            static_cast<int>(c.columns), static_cast<int>(c.rows), static_cast<int>(a.op_columns()), &one,
            b.data, static_cast<int>(b.columns), b.stride(), a.data, static_cast<int>(a.columns), a.stride(),
            &zero, c.data, static_cast<int>(c.columns), c.stride(), static_cast<int>(count)));
    }

    Batch gram(double* c, const Batch& a, const Extent& extent) {
        return multiply(c, a, a.transpose(), extent);
    }

    /// The product of the factors, from the left, in two buffers that alternate.
    Batch multiply_chain(const std::vector<Batch>& factors, double* const (&partial)[2],
                         const Extent& extent) {
        Batch product = factors[0];
        for (size_t i = 1; i < factors.size(); ++i)
            product = multiply(partial[i % 2], product, factors[i], extent);
        return product;
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

    /// matrices [items, n, n] = symmetric matrices with the eigenvalues of the items' M M^T; flags [items] =
    /// 1 where one is not finite.
    void form(const SpectrumScratch& scratch, const FactorProduct& product, const std::vector<Batch>& factors,
              const Extent& extent, double* matrices, int32_t* flags) {
        const ChainPlan plan(product);
        const int64_t n = plan.n, items = extent.items();
        std::vector<Batch> left,
            right(factors.begin() + static_cast<std::ptrdiff_t>(plan.bottleneck), factors.end());
        for (size_t i = plan.bottleneck; i-- > 0;) left.push_back(factors[i].transpose());
        if (left.empty() || right.empty()) {
            gram(matrices,
                 left.empty() ? multiply_chain(right, scratch.right, extent)
                              : multiply_chain(left, scratch.left, extent),
                 extent);
        } else {
            const Batch p = gram(scratch.p, multiply_chain(left, scratch.left, extent), extent);
            gram(scratch.s, multiply_chain(right, scratch.right, extent), extent);
            zero_nonfinite(stream_, scratch.p, flags, items, n);
            zero_nonfinite(stream_, scratch.s, flags, items, n);
            solvers_->cholesky.solve(scratch.root, scratch.s, n, items, scratch.cholesky);
            const Batch root{scratch.root, n, n};  // B^T
            multiply(matrices, multiply(scratch.half, root, p, extent), root.transpose(), extent);
        }
        zero_nonfinite(stream_, matrices, flags, items, n);
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
            form(scratch, product, load_groups(scratch, product, first, extent, draw), extent,
                 scratch.matrices + first * product.group * n * n, scratch.flags + first * product.group);
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
        }
    }

    int device_;
    cudaStream_t stream_ = nullptr;
    cudaEvent_t ready_ = nullptr;
    cublasHandle_t blas_ = nullptr;
    Buffer blas_workspace_, scratch_;
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
    return kBlasWorkspaceBytes + scratch_bytes(products, solvers);
}

}  // namespace pastur
