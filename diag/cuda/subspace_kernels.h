#pragma once
// The kernels of subspace iteration that are not matrix products.
#include <cuda_runtime_api.h>

#include "diag/subspace_iteration.h"

namespace pastur {

/// x [items, rows, width] = `block` [rows, width] for every item.
void repeat_block(cudaStream_t stream, double* x, const double* block, const BlockShape& shape);

/// Makes the rows of every item of x orthonormal, as SubspaceBlocks::orthonormalise(); rows <= kBlockRows.
void orthonormalise_rows(cudaStream_t stream, double* x, const BlockShape& shape);
inline constexpr int64_t kBlockRows = 64;

/// norms [items, rows] = |image_i - values_i x_i|.
void residual_norms(cudaStream_t stream, double* norms, const double* x, const double* image,
                    const double* values, const BlockShape& shape);

/// image = alpha image + beta current + gamma previous with the coefficients of each item, steps [items]. `previous`
/// may be `current`.
void combine_blocks(cudaStream_t stream, double* image, const double* current, const double* previous,
                    const FilterStep* steps, const BlockShape& shape);

}  // namespace pastur
