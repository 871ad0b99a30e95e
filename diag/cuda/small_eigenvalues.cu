// Householder reduction to a tridiagonal matrix in shared memory (Golub and Van Loan, Matrix Computations,
// section 8.3), then bisection.
#include "diag/cuda/small_eigenvalues.h"

#include "diag/cuda/householder.cuh"
#include "diag/cuda/sturm.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kLargest = static_cast<int>(kSmallEigenvalues);
constexpr int kParts = 4;  ///< threads that share a row
constexpr int kThreads = kLargest * kParts;
constexpr int kPitch = kLargest + 1;  ///< entries of a column lie in different banks
constexpr int kBisections = 64;  ///< an interval below 4 n shrinks to 2^-54, below earlier rounding errors

struct Workspace {
    double a[kLargest * kPitch];
    double v[kLargest], w[kLargest], parts[kParts][kLargest];
    double diagonal[kLargest], off_diagonal[kLargest];  ///< as in Tridiagonal
    double largest[kThreads / 32];
};

/// Loads a matrix divided by its largest magnitude and returns that, or 1 for the zero matrix.
__device__ double load_scaled(Workspace& shared, const double* matrix, int n) {
    double largest = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n * n; i += kThreads) {
        const int row = i % n, column = i / n;
        if (row < column) continue;
        const double value = matrix[i];
        shared.a[row * kPitch + column] = value;
        shared.a[column * kPitch + row] = value;
        largest = fmax(largest, fabs(value));
    }
    largest = block_max<kThreads>(largest, shared.largest);
    if (largest == 0) largest = 1;
    for (int i = static_cast<int>(threadIdx.x); i < n * n; i += kThreads)
        shared.a[i / n * kPitch + i % n] /= largest;
    __syncthreads();
    return largest;
}

/// The reflector that clears column k below the first subdiagonal; v goes to shared.v. Every warp computes
/// the same values.
__device__ Reflector reflect(Workspace& shared, int n, int k) {
    const int lane = static_cast<int>(threadIdx.x) % 32, rows = n - k - 1;
    const double alpha = shared.a[(k + 1) * kPitch + k];
    double squares = 0;
    for (int i = 1 + lane; i < rows; i += 32) {
        const double x = shared.a[(k + 1 + i) * kPitch + k];
        squares += x * x;
    }
    squares = warp_sum(squares);
    const int i = static_cast<int>(threadIdx.x);
    const Reflector h(alpha, squares);
    if (i < rows) shared.v[i] = i == 0 ? 1 : h.tau == 0 ? 0 : shared.a[(k + 1 + i) * kPitch + k] / h.pivot;
    return h;
}

/// Replaces the trailing block B after row k by H B H = B - v w^T - w v^T with w = p - (tau / 2) (p^T v) v
/// and p = tau B v.
__device__ void apply_reflector(Workspace& shared, int n, int k, double tau) {
    const int rows = n - k - 1, lane = static_cast<int>(threadIdx.x) % 32;
    const int row = static_cast<int>(threadIdx.x) % kLargest, part = static_cast<int>(threadIdx.x) / kLargest;
    double* const mine = shared.a + (k + 1 + row) * kPitch + k + 1;
    if (row < rows) {
        double sum = 0;
        for (int j = part; j < rows; j += kParts) sum += mine[j] * shared.v[j];
        shared.parts[part][row] = sum;
    }
    __syncthreads();
    const auto p = [&](int i) {
        return tau * (shared.parts[0][i] + shared.parts[1][i] + shared.parts[2][i] + shared.parts[3][i]);
    };
    double dot = 0;
    for (int i = lane; i < rows; i += 32) dot += p(i) * shared.v[i];
    dot = warp_sum(dot);
    if (part == 0 && row < rows) shared.w[row] = p(row) - tau / 2 * dot * shared.v[row];
    __syncthreads();
    if (row < rows) {
        const double v = shared.v[row], w = shared.w[row];
        for (int j = part; j < rows; j += kParts) mine[j] -= v * shared.w[j] + w * shared.v[j];
    }
    __syncthreads();
}

__device__ void tridiagonalise(Workspace& shared, int n) {
    for (int k = 0; k < n - 2; ++k) {
        const Reflector h = reflect(shared, n, k);
        if (threadIdx.x == 0) shared.off_diagonal[k] = h.beta;
        __syncthreads();
        if (h.tau != 0) apply_reflector(shared, n, k, h.tau);
    }
    if (threadIdx.x == 0 && n > 1) shared.off_diagonal[n - 2] = shared.a[(n - 1) * kPitch + n - 2];
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads)
        shared.diagonal[i] = shared.a[i * kPitch + i];
    __syncthreads();
}

__global__ void __launch_bounds__(kThreads)
    small_eigenvalues_kernel(double* eigenvalues, const double* matrices, int n) {
    __shared__ Workspace shared;
    const int64_t matrix = blockIdx.x;
    const double scale = load_scaled(shared, matrices + matrix * n * n, n);
    tridiagonalise(shared, n);
    const int index = static_cast<int>(threadIdx.x);
    if (index >= n) return;
    const Tridiagonal reduced{shared.diagonal, shared.off_diagonal, n};
    double low, high;
    reduced.bounds(low, high);
    for (int step = 0; step < kBisections; ++step) {
        const double middle = low + (high - low) / 2;
        if (reduced.count_below(middle) > index)
            high = middle;
        else
            low = middle;
    }
    eigenvalues[matrix * n + index] = (low + (high - low) / 2) * scale;
}

}  // namespace

void small_eigenvalues(cudaStream_t stream, double* eigenvalues, const double* matrices, int64_t n,
                       int64_t count) {
    launch_beside(stream, static_cast<unsigned>(count), kThreads, small_eigenvalues_kernel, eigenvalues,
                  matrices, static_cast<int>(n));
}

}  // namespace pastur
