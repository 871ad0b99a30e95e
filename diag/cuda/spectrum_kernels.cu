#include "diag/cuda/spectrum_kernels.h"

#include <cfloat>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {
namespace {

constexpr int kThreads = 256;
constexpr int kRootThreads = 512;

/// One thread per entry. Rows are gathered through pointers, so heads, groups, sums over heads and the shared
/// rotary key need one kernel only.
__global__ void load_factor_kernel(double* __restrict__ out, DeviceFactor factor) {
    const int64_t per_copy = factor.rows * factor.columns;
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i >= factor.copies * per_copy) return;
    const int64_t copy = i / per_copy, row = i % per_copy / factor.columns, column = i % factor.columns;
    const int32_t slot = factor.slots[row];
    const auto row_gain = [&](int64_t of) {
        const float* const gain = factor.row_gains ? factor.row_gains[copy * factor.rows + of] : nullptr;
        return gain ? static_cast<double>(*gain) : 1.0;
    };
    if (slot < 0 || column >= factor.weight_columns) {
        out[i] = column == -1 - slot ? row_gain(row) : 0;
        return;
    }
    const int64_t width = factor.weight_columns;
    double value = 0;
    for (int64_t term = 0; term < factor.terms; ++term) {
        int64_t from = (slot * factor.terms + term) * width + column;
        if (factor.shuffled)
            from = static_cast<int64_t>(
                shuffled_position(static_cast<uint64_t>(factor.stored_rows * factor.terms * width),
                                  factor.key, factor.index, static_cast<uint64_t>(from)));
        const int64_t from_row = factor.stored[from / (factor.terms * width)];
        const int64_t from_term = from / width % factor.terms, from_column = from % width;
        const int64_t piece_width = width / factor.pieces, piece = from_column / piece_width;
        const float* const source =
            factor.sources[((copy * factor.rows + from_row) * factor.terms + from_term) * factor.pieces +
                           piece];
        const auto stored = static_cast<double>(source[from_column - piece * piece_width]);
        value += (factor.gains ? stored * static_cast<double>(factor.gains[copy][from_column]) : stored) *
                 row_gain(from_row);
    }
    out[i] = value * factor.scale;
}

/// kMomentParts blocks per copy, each with every kMomentParts-th stored row: threads add up their columns,
/// then a tree adds up the block; the bits depend on nothing else. One block per copy would occupy an SM for
/// most of a millisecond, and training's kernels, which fill the device, wait for their last block.
__global__ void moments_kernel(double* __restrict__ moments, const double* __restrict__ values,
                               DeviceFactor factor) {
    __shared__ double sums[kThreads / kWarp], squares[kThreads / kWarp];
    const int64_t copy = blockIdx.y;
    const double* mine = values + copy * factor.rows * factor.columns;
    double sum = 0, square = 0;
    for (int64_t stored = blockIdx.x; stored < factor.stored_rows; stored += kMomentParts) {
        const double* row = mine + factor.stored[stored] * factor.columns;
        for (int64_t column = threadIdx.x; column < factor.weight_columns; column += kThreads) {
            const double value = row[column];
            sum += value;
            square += value * value;
        }
    }
    sum = block_sum<kThreads>(sum, sums);
    square = block_sum<kThreads>(square, squares);
    if (threadIdx.x != 0) return;
    double* const part = moments + (copy * kMomentParts + blockIdx.x) * 2;
    part[0] = sum;
    part[1] = square;
}

/// Parts into which the rows of a factor are divided for the sums of its columns.
__host__ __device__ int64_t profile_parts(int64_t rows) {
    const int64_t parts = rows / 256;
    return parts < 1 ? 1 : parts < kMomentParts ? parts : kMomentParts;
}

/// The sums of squares that make a copy's profile, in its scratch memory.
struct Profile {
    double *rows, *columns, *parts, *all;  ///< [rows], [columns], [profile_parts][columns], [1]
    __device__ Profile(double* scratch, const DeviceFactor& factor, int64_t copy) {
        const int64_t n = profile_parts(factor.rows);
        rows = scratch + copy * (factor.rows + (n + 1) * factor.columns + 1);
        columns = rows + factor.rows;
        parts = columns + factor.columns;
        all = parts + n * factor.columns;
    }
};

/// rows[i] = sum over the stored row i's squares. One block per row.
__global__ void profile_rows_kernel(double* __restrict__ scratch, const double* __restrict__ values,
                                    DeviceFactor factor) {
    __shared__ double sums[kThreads / kWarp];
    const double* row = values + (blockIdx.y * factor.rows + factor.stored[blockIdx.x]) * factor.columns;
    double sum = 0;
    for (int64_t column = threadIdx.x; column < factor.weight_columns; column += kThreads)
        sum += row[column] * row[column];
    sum = block_sum<kThreads>(sum, sums);
    if (threadIdx.x == 0) Profile(scratch, factor, blockIdx.y).rows[blockIdx.x] = sum;
}

/// parts[p][j] = sum of the squares of column j over every profile_parts-th stored row. One thread per column.
__global__ void profile_parts_kernel(double* __restrict__ scratch, const double* __restrict__ values,
                                     DeviceFactor factor) {
    const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (column >= factor.weight_columns) return;
    const double* mine = values + blockIdx.z * factor.rows * factor.columns + column;
    double sum = 0;
    for (int64_t stored = blockIdx.y; stored < factor.stored_rows; stored += gridDim.y) {
        const double value = mine[factor.stored[stored] * factor.columns];
        sum += value * value;
    }
    Profile(scratch, factor, blockIdx.z).parts[blockIdx.y * factor.columns + column] = sum;
}

/// columns[j] = sum of the parts; all[0] = sum of the rows, by the first block. Every sum has a fixed order.
__global__ void profile_columns_kernel(double* __restrict__ scratch, DeviceFactor factor) {
    __shared__ double sums[kThreads / kWarp];
    const Profile profile(scratch, factor, blockIdx.y);
    const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (column < factor.weight_columns) {
        double sum = 0;
        for (int64_t part = 0; part < profile_parts(factor.rows); ++part)
            sum += profile.parts[part * factor.columns + column];
        profile.columns[column] = sum;
    }
    if (blockIdx.x != 0) return;
    double sum = 0;
    for (int64_t row = threadIdx.x; row < factor.stored_rows; row += kThreads) sum += profile.rows[row];
    sum = block_sum<kThreads>(sum, sums);
    if (threadIdx.x == 0) profile.all[0] = sum;
}

/// Entry (i, j) = sqrt(rows[i] columns[j] / all) profile_normal(). One thread per entry.
__global__ void profile_draw_kernel(double* __restrict__ out, double* __restrict__ scratch,
                                    DeviceFactor factor) {
    const int64_t width = factor.weight_columns, per_copy = factor.stored_rows * width;
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (thread >= factor.copies * per_copy) return;
    const int64_t copy = thread / per_copy, i = thread % per_copy, stored = i / width, column = i % width;
    const Profile profile(scratch, factor, copy);
    const auto words = profile_words(
        factor.key, factor.index, static_cast<uint64_t>(factor.first_copy + copy), static_cast<uint64_t>(i));
    const double normal =
        sqrt(-2 * log(unit_interval(words[0]) + 0x1p-53)) * cospi(2 * unit_interval(words[1]));
    const double all = profile.all[0];
    const double variance = all == 0 ? 0 : profile.rows[stored] * profile.columns[column] / all;
    out[(copy * factor.rows + factor.stored[stored]) * factor.columns + column] = sqrt(variance) * normal;
}

/// One thread per pair of entries. No row is in two pairs.
__global__ void rotate_rows_kernel(double* __restrict__ values, DeviceFactor factor) {
    const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (column >= factor.columns) return;
    const RotatedRows pair = factor.rotations[blockIdx.y];
    double* const mine = values + blockIdx.z * factor.rows * factor.columns + column;
    const double a = mine[pair.first * factor.columns], b = mine[pair.second * factor.columns];
    mine[pair.first * factor.columns] = pair.cosine * a - pair.sine * b;
    mine[pair.second * factor.columns] = pair.sine * a + pair.cosine * b;
}

constexpr int kCheckParts =
    32;  ///< blocks per matrix; a single one would delay training (see moments_kernel)

__global__ void flag_nonfinite_kernel(int32_t* __restrict__ flags, const double* __restrict__ matrices,
                                      int64_t n) {
    const double* mine = matrices + blockIdx.y * n * n;
    int bad = 0;
    for (int64_t i = blockIdx.x * kThreads + threadIdx.x; i < n * n; i += kCheckParts * kThreads)
        bad |= !isfinite(mine[i]);
    if (bad) flags[blockIdx.y] = 1;
}

__global__ void zero_flagged_kernel(double* __restrict__ matrices, const int32_t* __restrict__ flags,
                                    int64_t n) {
    if (flags[blockIdx.y] == 0) return;
    double* mine = matrices + blockIdx.y * n * n;
    for (int64_t i = blockIdx.x * kThreads + threadIdx.x; i < n * n; i += kCheckParts * kThreads) mine[i] = 0;
}

/// The largest value of the block and where it is, the lowest index among equals; valid in every thread.
__device__ void block_argmax(double& value, int& index) {
    __shared__ double values[kRootThreads];
    __shared__ int indices[kRootThreads];
    values[threadIdx.x] = value;
    indices[threadIdx.x] = index;
    for (int half = kRootThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x >= half) continue;
        const double other = values[threadIdx.x + half];
        const int other_index = indices[threadIdx.x + half];
        const bool takes = other > values[threadIdx.x] ||
                           (other == values[threadIdx.x] && other_index < indices[threadIdx.x]);
        if (!takes) continue;
        values[threadIdx.x] = other;
        indices[threadIdx.x] = other_index;
    }
    __syncthreads();
    value = values[0];
    index = indices[0];
    __syncthreads();
}

__global__ void point_at_kernel(double** pointers, double* first, int64_t stride, int64_t count) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (i < count) pointers[i] = first + i * stride;
}

/// Clears the upper triangle (column-major) of the matrices that were factorised.
__global__ void clear_upper_kernel(double* __restrict__ roots, const int32_t* __restrict__ infos, int64_t n) {
    if (infos[blockIdx.y] != 0) return;
    double* mine = roots + blockIdx.y * n * n;
    for (int64_t column = 1 + blockIdx.x; column < n; column += gridDim.x)
        for (int64_t row = threadIdx.x; row < column; row += kThreads) mine[column * n + row] = 0;
}

/// Pivoted Cholesky of the matrices whose factorisation stopped. Column k of B is (G e_p - B_{<k} B_{<k}^T
/// e_p) / sqrt(d_p), where d is the diagonal of the remaining Schur complement and p its largest entry. No
/// remaining entry exceeds d_p, so stopping at d_p <= eps max d loses nothing above rounding (Higham,
/// "Accuracy and Stability of Numerical Algorithms", section 10.3). One block per matrix; a thread owns every
/// kRootThreads-th row; B is stored transposed, so accesses of neighbouring threads coalesce. Left-looking: G
/// is only read.
__global__ void pivoted_roots_kernel(double* __restrict__ roots, double* __restrict__ diagonals,
                                     const double* __restrict__ grams, const int32_t* __restrict__ infos,
                                     int64_t n) {
    constexpr double kDone = -1;
    if (infos[blockIdx.x] == 0) return;
    double* root = roots + blockIdx.x * n * n;
    double* diagonal = diagonals + blockIdx.x * n;
    const double* gram = grams + blockIdx.x * n * n;
    for (int64_t i = threadIdx.x; i < n; i += kRootThreads) diagonal[i] = fmax(gram[i * n + i], 0.0);
    double tolerance = 0;
    int64_t k = 0;
    for (; k < n; ++k) {
        double largest = kDone;
        int pivot = static_cast<int>(n);
        for (int64_t i = threadIdx.x; i < n; i += kRootThreads) {
            if (diagonal[i] <= largest) continue;
            largest = diagonal[i];
            pivot = static_cast<int>(i);
        }
        block_argmax(largest, pivot);
        if (k == 0) tolerance = DBL_EPSILON * largest;
        if (largest <= tolerance) break;
        const double scale = sqrt(largest);
        for (int64_t i = threadIdx.x; i < n; i += kRootThreads) {
            double entry = 0;
            if (i == pivot) {
                entry = scale;
            } else if (diagonal[i] != kDone) {
                double left = gram[static_cast<int64_t>(pivot) * n + i];
                for (int64_t j = 0; j < k; ++j) left -= root[j * n + i] * root[j * n + pivot];
                entry = left / scale;
            }
            root[k * n + i] = entry;
            if (diagonal[i] != kDone)
                diagonal[i] = i == pivot ? kDone : fmax(diagonal[i] - entry * entry, 0.0);
        }
        __syncthreads();  // the next column reads this column's entry at its pivot
    }
    for (int64_t i = k * n + threadIdx.x; i < n * n; i += kRootThreads) root[i] = 0;
}

}  // namespace

void load_factor(cudaStream_t stream, double* out, double* moments, const DeviceFactor& factor) {
    const int64_t entries = factor.copies * factor.rows * factor.columns;
    launch_beside(stream, static_cast<unsigned>(ceil_div(entries, kThreads)), kThreads, load_factor_kernel,
                  out, factor);
    launch_beside(stream, dim3(kMomentParts, static_cast<unsigned>(factor.copies)), kThreads, moments_kernel,
                  moments, out, factor);
}

int64_t profile_doubles(int64_t rows, int64_t columns) {
    return rows + (profile_parts(rows) + 1) * columns + 1;
}

void draw_from_profile(cudaStream_t stream, double* out, double* scratch, const DeviceFactor& factor) {
    const auto copies = static_cast<unsigned>(factor.copies);
    const auto column_blocks = static_cast<unsigned>(ceil_div(factor.weight_columns, kThreads));
    launch_beside(stream, dim3(static_cast<unsigned>(factor.stored_rows), copies), kThreads,
                  profile_rows_kernel, scratch, out, factor);
    launch_beside(stream, dim3(column_blocks, static_cast<unsigned>(profile_parts(factor.rows)), copies),
                  kThreads, profile_parts_kernel, scratch, out, factor);
    launch_beside(stream, dim3(column_blocks, copies), kThreads, profile_columns_kernel, scratch, factor);
    const int64_t entries = factor.copies * factor.stored_rows * factor.weight_columns;
    launch_beside(stream, static_cast<unsigned>(ceil_div(entries, kThreads)), kThreads, profile_draw_kernel,
                  out, scratch, factor);
}

void rotate_rows(cudaStream_t stream, double* out, const DeviceFactor& factor) {
    const dim3 grid(static_cast<unsigned>(ceil_div(factor.columns, kThreads)),
                    static_cast<unsigned>(factor.rotation_count), static_cast<unsigned>(factor.copies));
    launch_beside(stream, grid, kThreads, rotate_rows_kernel, out, factor);
}

void zero_nonfinite(cudaStream_t stream, double* matrices, int32_t* flags, int64_t count, int64_t n) {
    const dim3 grid(kCheckParts, static_cast<unsigned>(count));
    launch_beside(stream, grid, kThreads, flag_nonfinite_kernel, flags, matrices, n);
    launch_beside(stream, grid, kThreads, zero_flagged_kernel, matrices, flags, n);
}

void point_at(cudaStream_t stream, double** pointers, double* first, int64_t stride, int64_t count) {
    launch_beside(stream, static_cast<unsigned>(ceil_div(count, kThreads)), kThreads, point_at_kernel,
                  pointers, first, stride, count);
}

void finish_roots(cudaStream_t stream, double* roots, double* diagonals, const double* grams,
                  const int32_t* infos, int64_t count, int64_t n) {
    launch_beside(stream, dim3(kCheckParts, static_cast<unsigned>(count)), kThreads, clear_upper_kernel,
                  roots, infos, n);
    launch_beside(stream, static_cast<unsigned>(count), kRootThreads, pivoted_roots_kernel, roots, diagonals,
                  grams, infos, n);
}

}  // namespace pastur
