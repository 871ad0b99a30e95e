// Spectra by cuBLAS and an Eigensolver in fp64, beside training: a stream of the lowest priority, handles and
// memory of its own. Group by group (the heads of a layer) factors become symmetric matrices; then those of
// all groups are solved at once.
#include "diag/spectrum.h"

#include <cublas_v2.h>

#include <algorithm>

#include "diag/cuda/eigensolver.h"
#include "diag/cuda/spectrum_kernels.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {
namespace {

constexpr int64_t kBlasWorkspaceBytes = int64_t{32} << 20;  // what NVIDIA asks for a stream on Hopper

/// A batch of row-major doubles, seen as their transposes when `transposed`; `stride` 0: one serves all.
struct Batch {
    double* data = nullptr;
    int64_t rows = 0, columns = 0, stride = 0;
    bool transposed = false;

    int64_t seen_rows() const { return transposed ? columns : rows; }
    int64_t seen_columns() const { return transposed ? rows : columns; }
    Batch flipped() const { return {data, rows, columns, stride, !transposed}; }
};

/// Takes aligned pieces of a buffer, or only counts their bytes where there is none.
class Carver {
  public:
    explicit Carver(std::byte* base = nullptr) : base_(base) {}
    template <typename T>
    T* take(int64_t count) {
        std::byte* data = base_ ? base_ + used_ : nullptr;
        used_ += align_up(count * static_cast<int64_t>(sizeof(T)));
        return reinterpret_cast<T*>(data);
    }
    int64_t used() const { return used_; }

  private:
    std::byte* base_;
    int64_t used_ = 0;
};

/// A factor's description on the device.
struct FactorTables {
    const float** sources;
    const float** gains;
    int32_t *slots, *stored;
    double *values, *moments;  ///< values of one group's copies
};

/// Everything that solving one product takes.
struct Scratch {
    std::vector<FactorTables> factors;
    double *left[2], *right[2];              ///< partial products of one group
    double *p, *s, *root, *half, *diagonal;  ///< of one group
    double *matrices, *eigenvalues;          ///< of all items
    int32_t *flags, *infos;
    std::byte* workspace;
    int64_t workspace_bytes;

    Scratch(Carver carver, const FactorProduct& product, Eigensolver& eigensolver, int64_t* bytes = nullptr) {
        const ChainPlan plan(product);
        const int64_t group = product.group, n = plan.n;
        for (const Factor& factor : product.factors) {
            const int64_t copies = product.copies(factor);
            FactorTables& tables = factors.emplace_back();
            tables.sources = carver.take<const float*>(copies * factor.rows * factor.terms);
            tables.gains = carver.take<const float*>(copies);
            tables.slots = carver.take<int32_t>(factor.rows);
            tables.stored = carver.take<int32_t>(factor.rows);
            tables.values = carver.take<double>((factor.shared ? 1 : group) * factor.rows * factor.columns);
            tables.moments = carver.take<double>(2 * kMomentParts * copies);
        }
        for (int i = 0; i < 2; ++i) {
            left[i] = carver.take<double>(group * n * plan.widest_left);
            right[i] = carver.take<double>(group * n * plan.widest_right);
        }
        for (double** gram : {&p, &s, &root, &half}) *gram = carver.take<double>(group * n * n);
        diagonal = carver.take<double>(group * n);
        matrices = carver.take<double>(product.items * n * n);
        eigenvalues = carver.take<double>(product.items * n);
        flags = carver.take<int32_t>(product.items);
        infos = carver.take<int32_t>(product.items);
        workspace_bytes = eigensolver.workspace_bytes(n, product.items);
        workspace = carver.take<std::byte>(workspace_bytes);
        if (bytes) *bytes = carver.used();
    }
};

int64_t scratch_bytes(std::span<const FactorProduct> products, Eigensolver& eigensolver) {
    int64_t largest = 0;
    for (const FactorProduct& product : products) {
        int64_t bytes = 0;
        const Scratch counted(Carver(), product, eigensolver, &bytes);
        largest = std::max(largest, bytes);
    }
    return largest;
}

class CudaSpectrumSolver final : public SpectrumSolver {
  public:
    CudaSpectrumSolver(CudaContext& ctx, std::span<const FactorProduct> products)
        : device_(ctx.handles().device) {
        CUDA_CHECK(cudaSetDevice(device_));
        open(ctx);
        eigensolver_ = std::make_unique<Eigensolver>(stream_);
        scratch_ = allocate(ctx, scratch_bytes(products, *eigensolver_));
    }

    ~CudaSpectrumSolver() override {
        CUDA_CHECK_LOG(cudaSetDevice(device_));
        if (stream_) CUDA_CHECK_LOG(cudaStreamSynchronize(stream_));
        eigensolver_.reset();
        if (blas_) CUBLAS_CHECK_LOG(cublasDestroy(blas_));
        if (ready_) CUDA_CHECK_LOG(cudaEventDestroy(ready_));
        if (stream_) CUDA_CHECK_LOG(cudaStreamDestroy(stream_));
    }

    void follow(Context& ctx) override {
        CudaHandles& handles = std::get<CudaContext>(ctx).handles();
        CUDA_CHECK(cudaSetDevice(device_));
        CUDA_CHECK(cudaEventRecord(ready_, handles.stream));
    }

    std::vector<std::vector<Spectrum>> solve(std::span<const FactorProduct> products,
                                             const std::optional<ShuffleKey>& shuffle) override {
        std::vector<std::vector<Spectrum>> spectra;
        for (const FactorProduct& product : products) {
            std::vector<Spectrum>& mine = spectra.emplace_back(static_cast<size_t>(product.items));
            try {
                solve_product(mine, product, shuffle);
            } catch (const Error& error) {
                for (Spectrum& spectrum : mine)
                    spectrum = {Spectrum::Status::kSolverFailed,
                                {},
                                error.what(),
                                std::vector<double>(product.factors.size())};
            }
        }
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

    /// From pageable memory: has been read when this returns.
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

    /// c = a b for a batch, row-major: read by columns, c^T = b^T a^T.
    Batch multiply(double* c, const Batch& a, const Batch& b, int64_t count) {
        const Batch out{c, a.seen_rows(), b.seen_columns(), a.seen_rows() * b.seen_columns()};
        const double one = 1, zero = 0;
        CUBLAS_CHECK(cublasDgemmStridedBatched(
            blas_, b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
            static_cast<int>(out.columns), static_cast<int>(out.rows), static_cast<int>(a.seen_columns()),
            &one, b.data, static_cast<int>(b.columns), b.stride, a.data, static_cast<int>(a.columns),
            a.stride, &zero, c, static_cast<int>(out.columns), out.stride, static_cast<int>(count)));
        return out;
    }

    Batch gram(double* c, const Batch& a, int64_t count) { return multiply(c, a, a.flipped(), count); }

    Batch walk(const std::vector<Batch>& factors, double* const (&partial)[2], int64_t count) {
        Batch product = factors[0];
        for (size_t i = 1; i < factors.size(); ++i)
            product = multiply(partial[i % 2], product, factors[i], count);
        return product;
    }

    void describe(const Scratch& scratch, const FactorProduct& product) {
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
            send(tables.slots, rows.slots);
            send(tables.stored, rows.stored);
        }
    }

    /// The factors of the group of items that begins at `first`.
    std::vector<Batch> load_group(const Scratch& scratch, const FactorProduct& product, int64_t first,
                                  const std::optional<ShuffleKey>& shuffle) {
        std::vector<Batch> batches;
        for (size_t i = 0; i < product.factors.size(); ++i) {
            const Factor& factor = product.factors[i];
            const FactorTables& tables = scratch.factors[i];
            const int64_t copy = factor.shared ? first / product.group : first;
            DeviceFactor load{};
            load.sources = tables.sources + copy * factor.rows * factor.terms;
            load.gains = factor.gains.empty() ? nullptr : tables.gains + copy;
            load.slots = tables.slots;
            load.stored = tables.stored;
            load.copies = factor.shared ? 1 : product.group;
            load.rows = factor.rows;
            load.columns = factor.columns;
            load.weight_columns = factor.weight_columns();
            load.terms = factor.terms;
            load.stored_rows = static_cast<int64_t>(FactorRows(factor).stored.size());
            load.shuffled = shuffle.has_value();
            load.key = shuffle.value_or(ShuffleKey{});
            load.index = i;
            load_factor(stream_, tables.values, tables.moments + 2 * kMomentParts * copy, load);
            batches.push_back({tables.values, factor.rows, factor.columns,
                               factor.shared ? 0 : factor.rows * factor.columns, factor.transposed});
        }
        return batches;
    }

    /// matrices [group, n, n] whose eigenvalues are those of the group's M M^T; flags [group].
    void form_group(const Scratch& scratch, const FactorProduct& product, const std::vector<Batch>& factors,
                    double* matrices, int32_t* flags) {
        const ChainPlan plan(product);
        const int64_t group = product.group, n = plan.n;
        std::vector<Batch> left,
            right(factors.begin() + static_cast<std::ptrdiff_t>(plan.bottleneck), factors.end());
        for (size_t i = plan.bottleneck; i-- > 0;) left.push_back(factors[i].flipped());
        if (left.empty() || right.empty()) {
            gram(matrices, left.empty() ? walk(right, scratch.right, group) : walk(left, scratch.left, group),
                 group);
        } else {
            const Batch p = gram(scratch.p, walk(left, scratch.left, group), group);
            gram(scratch.s, walk(right, scratch.right, group), group);
            zero_nonfinite(stream_, scratch.p, flags, group, n);
            zero_nonfinite(stream_, scratch.s, flags, group, n);
            cholesky_roots(stream_, scratch.root, scratch.diagonal, scratch.s, group, n);
            const Batch root{scratch.root, n, n, n * n};  // B^T
            multiply(matrices, multiply(scratch.half, root, p, group), root.flipped(), group);
        }
        zero_nonfinite(stream_, matrices, flags, group, n);
    }

    void solve_product(std::vector<Spectrum>& spectra, const FactorProduct& product,
                       const std::optional<ShuffleKey>& shuffle) {
        CUDA_CHECK(cudaSetDevice(device_));
        CUDA_CHECK(cudaStreamWaitEvent(stream_, ready_));
        const Scratch scratch(Carver(scratch_.data()), product, *eigensolver_);
        const int64_t n = product.count(), items = product.items;
        describe(scratch, product);
        CUDA_CHECK(cudaMemsetAsync(scratch.flags, 0, static_cast<size_t>(items) * sizeof(int32_t), stream_));
        for (int64_t first = 0; first < items; first += product.group)
            form_group(scratch, product, load_group(scratch, product, first, shuffle),
                       scratch.matrices + first * n * n, scratch.flags + first);
        eigensolver_->solve(scratch.eigenvalues, scratch.infos, scratch.matrices, n, items, scratch.workspace,
                            scratch.workspace_bytes);
        collect(spectra, scratch, product);
    }

    void collect(std::vector<Spectrum>& spectra, const Scratch& scratch, const FactorProduct& product) {
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
    std::unique_ptr<Eigensolver> eigensolver_;
};

}  // namespace

std::unique_ptr<SpectrumSolver> make_spectrum_solver(CudaContext& ctx,
                                                     std::span<const FactorProduct> products) {
    return std::make_unique<CudaSpectrumSolver>(ctx, products);
}

int64_t solver_bytes(CudaContext& ctx, std::span<const FactorProduct> products) {
    CUDA_CHECK(cudaSetDevice(ctx.handles().device));
    Eigensolver eigensolver(ctx.handles().stream);
    return kBlasWorkspaceBytes + scratch_bytes(products, eigensolver);
}

}  // namespace pastur
