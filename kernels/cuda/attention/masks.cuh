#pragma once
// The causal mask of scores.
#include <cuda_runtime.h>

namespace pastur::attention {

/// Sets scores of keys after their query to -infinity. A thread holds rows `row` and row + 8, columns key,
/// key + 1, key + 8, key + 9 ...
template <int kTiles>
__device__ void mask_later_keys(float (&s)[kTiles][4], int row, int key) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (key + n * 8 + i % 2 > row + i / 2 * 8) s[n][i] = -INFINITY;
        }
    }
}

}  // namespace pastur::attention
