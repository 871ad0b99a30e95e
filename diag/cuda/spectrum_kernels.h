#pragma once
// What the spectrum solver does on a device besides calling libraries.
#include <cuda_runtime_api.h>

#include <cstdint>

#include "diag/spectrum.h"

namespace pastur {

/// A chunk of copies of one Factor, all pointers on the device.
struct DeviceFactor {
    const float* const* sources;  ///< [copies][rows][terms]
    const float* const* gains;    ///< [copies], or null
    const int32_t* slots;         ///< FactorRows
    const int32_t* stored;
    int64_t copies, rows, columns, weight_columns, terms, stored_rows;
    bool shuffled;
    ShuffleKey key;
    uint64_t index;  ///< of the factor in its chain
};

inline constexpr int kMomentParts = 64;

/// out [copies, rows, columns] = the factor in fp64. moments [copies, kMomentParts, 2] = sums and sums of
/// squares, each of some, of the entries of the stored part, added in a fixed order.
void load_factor(cudaStream_t stream, double* out, double* moments, const DeviceFactor& factor);

/// The flag of a matrix [n, n] of `count` that holds NaN or infinity becomes 1, others stay; then matrices
/// whose flag is 1 become zero.
void zero_nonfinite(cudaStream_t stream, double* matrices, int32_t* flags, int64_t count, int64_t n);

/// pointers[i] = first + i * stride, for i below `count`.
void point_at(cudaStream_t stream, double** pointers, double* first, int64_t stride, int64_t count);

/// Of roots [count, n, n], Cholesky factors B of grams [count, n, n], each B^T read by rows with anything
/// below its diagonal: makes that zero where infos [count] is 0; anywhere else finds the factor anew, with
/// complete pivoting, which takes every positive semidefinite matrix but n^3 steps of one block. diagonals:
/// scratch [count, n].
void finish_roots(cudaStream_t stream, double* roots, double* diagonals, const double* grams,
                  const int32_t* infos, int64_t count, int64_t n);

}  // namespace pastur
