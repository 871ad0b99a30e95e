#pragma once
// Which work a CTA of a plain grid does, one tile of tokens a CTA.
#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/launch.cuh"

namespace pastur::attention {

/// The (sequence, head, tile of tokens) of a CTA, and which of `chunks` parts of the tile's output it
/// computes. The tiles of a head are neighbours in launch order, so they find each other's rows in L2;
/// `descending` starts with the last tile, the longest where queries are stationary. Read from blockIdx, the
/// position stays in uniform registers.
struct CtaPosition {
    int batch, head, tile, chunk;

    __device__ explicit CtaPosition(bool descending, int chunks = 1) {
        const int tiles = static_cast<int>(gridDim.x) / chunks, index = static_cast<int>(blockIdx.x);
        batch = static_cast<int>(blockIdx.z);
        head = static_cast<int>(blockIdx.y);
        tile = descending ? tiles - 1 - index / chunks : index / chunks;
        chunk = index % chunks;
    }
    /// Index of the head's first token in [B, H, T].
    __device__ int64_t first_row(const Sizes& sizes) const {
        return (static_cast<int64_t>(batch) * sizes.heads + head) * sizes.tokens;
    }
};

/// The grid that CtaPosition reads.
inline dim3 tile_grid(const Sizes& sizes, int heads, int tile_rows, int chunks = 1) {
    return dim3(static_cast<unsigned>(ceil_div(sizes.tokens, tile_rows) * chunks),
                static_cast<unsigned>(heads), static_cast<unsigned>(sizes.batch));
}

}  // namespace pastur::attention
