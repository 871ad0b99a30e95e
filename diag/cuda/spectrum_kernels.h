#pragma once
// The spectrum solver's own kernels.
#include <cuda_runtime_api.h>

#include <cstdint>

#include "diag/spectrum.h"

namespace pastur {

/// A chunk of copies of one Factor, all pointers on the device.
struct DeviceFactor {
    const float* const* sources;    ///< [copies][rows][terms][pieces]
    const float* const* gains;      ///< [copies], or null
    const int32_t* slots;           ///< FactorRows
    const float* const* row_gains;  ///< [copies][rows], or null
    double scale;
    const int32_t* stored;
    const RotatedRows* rotations;
    int64_t copies, rows, columns, weight_columns, terms, pieces, stored_rows, rotation_count;
    bool shuffled;  ///< by `key`; load_factor() alone reads it
    DrawKey key;
    uint64_t index;      ///< of the factor in its chain
    int64_t first_copy;  ///< number of the first copy in the whole product
};

inline constexpr int kMomentParts = 64;

/// out [copies, rows, columns] = the factor in fp64. moments [copies, kMomentParts, 2] = sum and sum of
/// squares of a part of the stored entries each, added in a fixed order.
void load_factor(cudaStream_t stream, double* out, double* moments, const DeviceFactor& factor);

/// Replaces the stored entries of out [copies, rows, columns] by Gaussian numbers of their profile
/// (FactorDraw::Kind::kProfile). `scratch`: profile_doubles() for each copy.
void draw_from_profile(cudaStream_t stream, double* out, double* scratch, const DeviceFactor& factor);
int64_t profile_doubles(int64_t rows, int64_t columns);

/// Rotates the rows of out [copies, rows, columns], as factor.rotations [rotation_count] say.
void rotate_rows(cudaStream_t stream, double* out, const DeviceFactor& factor);

/// flags [count] = 1 for each of the matrices [count, n, n] that holds NaN or infinity; other flags keep
/// their value. Then matrices whose flag is 1 become zero.
void zero_nonfinite(cudaStream_t stream, double* matrices, int32_t* flags, int64_t count, int64_t n);

/// pointers[i] = first + i * stride, for i below `count`.
void point_at(cudaStream_t stream, double** pointers, double* first, int64_t stride, int64_t count);

/// Completes roots [count, n, n], the Cholesky factors B of grams [count, n, n], stored as B^T row-major.
/// Where infos [count] is 0 it clears the entries below the diagonal. Elsewhere the factorisation had
/// stopped: it computes B again with complete pivoting, which works for every positive semidefinite matrix
/// but takes n^3 steps of one block. diagonals: scratch [count, n].
void finish_roots(cudaStream_t stream, double* roots, double* diagonals, const double* grams,
                  const int32_t* infos, int64_t count, int64_t n);

}  // namespace pastur
