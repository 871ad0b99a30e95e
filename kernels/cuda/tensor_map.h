#pragma once
// What Hopper's copy engine needs to know of a tensor in memory. Host side.
#include <cuda.h>

#include "kernels/base/context.h"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

/// Whether ctx's device has such an engine, and its driver offers tensor maps.
bool has_tensor_copies(CudaContext& ctx);

/// [batches, heads, rows, columns] of bf16; strides in numbers, between columns 1. All but a stride that only
/// one index uses must be multiples of 8, and data one of 16 bytes.
struct MappedTensor {
    const bf16* data;
    int64_t columns, rows, row_stride;
    int64_t heads = 1, head_stride = 0;
    int64_t batches = 1, batch_stride = 0;
};

/// It, in boxes of box_rows rows of box_columns columns, 64 or 32, which arrive with the swizzle of their 128
/// or 64 bytes. Throws (kOther).
CUtensorMap tensor_map(const MappedTensor& tensor, int box_rows, int box_columns);

}  // namespace pastur
