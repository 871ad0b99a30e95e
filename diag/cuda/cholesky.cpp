#include "diag/cuda/cholesky.h"

#include "diag/cuda/carver.h"
#include "diag/cuda/spectrum_kernels.h"
#include "kernels/cuda/check.h"

namespace pastur {
namespace {

/// Up to this size a batch takes less time than one matrix after another, in ms on an H200: twelve of 416 0.5
/// instead of 2.1, twelve of 1024 1.9 instead of 5.1, eight of 2112 6.7 instead of 7.1; but a single one of
/// 2112 takes 3.9 batched and 0.9 by itself.
constexpr int64_t kBatchedLimit = 1024;
bool batched(int64_t n, int64_t count) {
    return n <= kBatchedLimit && count > 1;
}

}  // namespace

struct CholeskyRoots::Workspace {
    double** matrices;  ///< [count] addresses within the roots
    int32_t* infos;     ///< [count]
    double* diagonals;  ///< [count, n]
    std::byte* library;
    size_t library_bytes = 0;
    int64_t bytes;

    Workspace(Cusolver& cusolver, int64_t n, int64_t count, std::byte* base) {
        Carver carver(base);
        matrices = carver.take<double*>(count);
        infos = carver.take<int32_t>(count);
        diagonals = carver.take<double>(count * n);
        size_t host = 0;
        if (!batched(n, count))
            CUSOLVER_CHECK(cusolverDnXpotrf_bufferSize(cusolver.handle(), cusolver.params(),
                                                       CUBLAS_FILL_MODE_LOWER, n, CUDA_R_64F, nullptr, n,
                                                       CUDA_R_64F, &library_bytes, &host));
        cusolver.host_workspace(host);
        library = carver.take<std::byte>(static_cast<int64_t>(library_bytes));
        bytes = carver.used();
    }
};

int64_t CholeskyRoots::workspace_bytes(int64_t n, int64_t count) {
    return Workspace(cusolver_, n, count, nullptr).bytes;
}

void CholeskyRoots::solve(double* roots, const double* grams, int64_t n, int64_t count,
                          std::byte* workspace) {
    const cudaStream_t stream = cusolver_.stream();
    const Workspace work(cusolver_, n, count, workspace);
    CUDA_CHECK(cudaMemcpyAsync(roots, grams, static_cast<size_t>(count * n * n) * sizeof *roots,
                               cudaMemcpyDeviceToDevice, stream));
    if (batched(n, count)) {
        point_at(stream, work.matrices, roots, n * n, count);
        CUSOLVER_CHECK(cusolverDnDpotrfBatched(cusolver_.handle(), CUBLAS_FILL_MODE_LOWER,
                                               static_cast<int>(n), work.matrices, static_cast<int>(n),
                                               work.infos, static_cast<int>(count)));
    } else {
        std::vector<std::byte>& host = cusolver_.host_workspace();
        for (int64_t i = 0; i < count; ++i)
            CUSOLVER_CHECK(cusolverDnXpotrf(cusolver_.handle(), cusolver_.params(), CUBLAS_FILL_MODE_LOWER, n,
                                            CUDA_R_64F, roots + i * n * n, n, CUDA_R_64F, work.library,
                                            work.library_bytes, host.data(), host.size(), work.infos + i));
    }
    finish_roots(stream, roots, work.diagonals, grams, work.infos, count, n);
}

}  // namespace pastur
