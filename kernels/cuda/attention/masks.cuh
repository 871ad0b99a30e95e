#pragma once
// Which scores are masked: keys after their query, and with a stride (AttentionInputs::stride) also earlier
// keys that do not end a chunk, and with documents (AttentionInputs::documents) all keys of other documents.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/numeric.cuh"

namespace pastur::attention {

/// Masks that a kernel is instantiated for. kStride: a stride. kDocuments: documents, with a stride or without.
enum class Mask { kCausal, kStride, kDocuments };

/// Calls run.template operator()<Mask>() with the mask that the inputs need.
template <typename Run>
void visit_mask(const Sizes& sizes, const Documents& documents, const Run& run) {
    if (documents.first_key != nullptr)
        run.template operator()<Mask::kDocuments>();
    else if (sizes.stride > 1)
        run.template operator()<Mask::kStride>();
    else
        run.template operator()<Mask::kCausal>();
}

/// The first key that a query sees, 0 without documents. Queries past the last token count as the last one.
__device__ __forceinline__ int first_key_of(const Documents& documents, int tokens, int batch, int query) {
    if (documents.first_key == nullptr) return 0;
    return documents.first_key[static_cast<int64_t>(batch) * tokens + min(query, tokens - 1)];
}
/// The end of the queries that see a key, `tokens` without documents. Keys past the last token count as the last one.
__device__ __forceinline__ int query_end_of(const Documents& documents, int tokens, int batch, int key) {
    if (documents.query_end == nullptr) return tokens;
    return documents.query_end[static_cast<int64_t>(batch) * tokens + min(key, tokens - 1)];
}

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

/// mask_hidden_keys with documents. first_key: of rows `row` and row + 8.
template <int kTiles>
__device__ __forceinline__ void mask_other_documents(float (&s)[kTiles][4], int row, int key, uint64_t ends,
                                                     const int (&first_key)[2]) {
    static_assert(kTiles <= 8);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int column = n * 8 + i % 2, ahead = row + i / 2 * 8 - key;
            const bool visible = column >= first_key[i / 2] - key &&
                                 (column == ahead || (column < ahead && (ends >> column & 1) != 0));
            if (!visible) s[n][i] = -INFINITY;
        }
    }
}

/// The documents of a warp's 16 queries, of which a thread holds rows lane / 4 and lane / 4 + 8; zeros unless kMask is
/// kDocuments.
template <Mask kMask>
struct QueryDocuments {
    int first_key[2] = {0, 0};  ///< of the thread's rows
    int least = 0;              ///< keys before it are hidden from all 16 queries
    int largest = 0;            ///< no key from it on is hidden by documents

    QueryDocuments() = default;
    /// row: the warp's first query.
    __device__ QueryDocuments(const Documents& documents, const Sizes& sizes, int batch, int row, int lane) {
        if constexpr (kMask == Mask::kDocuments) {
            const auto of = [&](int query) { return first_key_of(documents, sizes.tokens, batch, query); };
            first_key[0] = of(row + lane / 4);
            first_key[1] = of(row + lane / 4 + 8);
            least = of(row);
            largest = of(row + 15);
        }
    }
    /// Whether keys from `key` on may be hidden, other than by the diagonal, in a kernel of kDocuments.
    __device__ bool hides(int key, int stride) const { return stride > 1 || key < largest; }
};

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
