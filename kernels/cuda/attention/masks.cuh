#pragma once
// Which scores are masked: keys after their query, and with a stride (AttentionInputs::stride) also earlier
// keys that do not end a chunk.
#include <cuda_runtime.h>

#include <cstdint>

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

/// Whether queries after the key see it.
__device__ inline bool ends_chunk(int key, int stride) {
    return (key + 1) % stride == 0;
}

/// Whether the query sees the key.
__device__ inline bool sees(int query, int key, int stride) {
    return key == query || (key < query && (stride == 1 || ends_chunk(key, stride)));
}

/// The keys that end a chunk, 64 at a time.
class ChunkEnds {
  public:
    __device__ explicit ChunkEnds(int stride) : stride_(stride) {
        for (int shift = stride; shift < 64; shift *= 2) pattern_ |= pattern_ << shift;
    }
    /// Bit i: ends_chunk(first + i, stride).
    __device__ uint64_t from(int first) const {
        const int skipped = stride_ - 1 - first % stride_;
        return skipped < 64 ? pattern_ << skipped : 0;
    }

  private:
    int stride_;
    uint64_t pattern_ = 1;  ///< the multiples of the stride
};

/// mask_later_keys with a stride. `ends`: ChunkEnds::from(key); at most 64 columns.
template <int kTiles>
__device__ __forceinline__ void mask_hidden_keys(float (&s)[kTiles][4], int row, int key, uint64_t ends) {
    static_assert(kTiles <= 8);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int column = n * 8 + i % 2, ahead = row + i / 2 * 8 - key;
            const bool visible = column == ahead || (column < ahead && (ends >> column & 1) != 0);
            if (!visible) s[n][i] = -INFINITY;
        }
    }
}

/// mask_hidden_keys for keys that are all before the queries.
template <int kTiles>
__device__ __forceinline__ void mask_inside_chunks(float (&s)[kTiles][4], uint64_t ends) {
    static_assert(kTiles <= 8);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if ((ends >> (n * 8 + i % 2) & 1) == 0) s[n][i] = -INFINITY;
        }
    }
}

}  // namespace pastur::attention
