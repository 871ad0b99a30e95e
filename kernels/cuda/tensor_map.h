#pragma once
// Tensor maps, which describe tensors in memory to TMA (Hopper). Host side.
#include <cuda.h>

#include "kernels/base/context.h"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

/// Whether ctx's device has TMA and its driver can encode tensor maps.
bool has_tensor_copies(CudaContext& ctx);

/// [batches, heads, rows, columns] of bf16. Strides are in elements and multiples of 8, except the stride of
/// a dimension of size 1, which may be anything; columns have stride 1. data is aligned to 16 bytes.
struct MappedTensor {
    const bf16* data;
    int64_t columns, rows, row_stride;
    int64_t heads = 1, head_stride = 0;
    int64_t batches = 1, batch_stride = 0;
};

/// The tensor map for boxes of box_rows rows of box_columns columns: 64, with the 128-byte swizzle, or 32,
/// with the 64-byte swizzle. Throws (kOther).
CUtensorMap tensor_map(const MappedTensor& tensor, int box_rows, int box_columns);

}  // namespace pastur
