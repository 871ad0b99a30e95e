#pragma once
// P and dS from S and dP in tiles whose rows are keys and whose columns are queries.
#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/mma.cuh"

namespace pastur::attention {

/// The two keys of a thread, `key` and key + 8, in tiles whose rows are keys.
template <Mask kMask>
struct KeyPair {
    bool ends[2] = {true, true};  ///< ends_chunk
    int span[2] = {0,
                   0};  ///< kDocuments: how far the end of the queries that see it is ahead of the first key

    KeyPair() = default;
    __device__ KeyPair(int key, const Sizes& sizes, const Documents& documents, int batch) {
        if constexpr (kMask != Mask::kCausal)
            ends[0] = ends_chunk(key, sizes.stride), ends[1] = ends_chunk(key + 8, sizes.stride);
        if constexpr (kMask == Mask::kDocuments) {
            span[0] = query_end_of(documents, sizes.tokens, batch, key) - key;
            span[1] = query_end_of(documents, sizes.tokens, batch, key + 8) - key;
        }
    }
    /// Whether element i of tile n is masked. `ahead`: by how many tokens the query of element 0 of tile 0 is
    /// ahead of its key; without documents, any number as large where all queries are after the keys.
    __device__ bool hidden(int n, int i, int ahead) const {
        const int column = n * 8 + i % 2, behind = i / 2 * 8 - column;
        return behind > ahead || (kMask != Mask::kCausal && behind != ahead && !ends[i / 2]) ||
               (kMask == Mask::kDocuments && column + ahead >= span[i / 2]);
    }
    /// Whether an element of kTiles tiles may be masked although its query is after its key.
    template <int kTiles>
    __device__ bool hides(int ahead) const {
        if constexpr (kMask == Mask::kDocuments)
            return !ends[0] || !ends[1] || (kTiles - 1) * 8 + 1 + ahead >= span[0];
        else
            return kMask == Mask::kStride;
    }
};

/// s = S^T becomes P^T, and dp = dP^T becomes dS^T = P^T (dP^T - delta). `stats`: (log2(e) lse, delta) of the
/// lane's first two queries; `ahead`: by how many tokens its first query is ahead of its first key.
template <int kTiles, Mask kMask>
__device__ void probabilities_by_key(float (&s)[kTiles][4], float (&dp)[kTiles][4], SharedAddress stats,
                                     float c, int ahead, const KeyPair<kMask>& keys) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
        const float4 pair = load_shared_16(stats + n * 8 * static_cast<int>(sizeof(float2)));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float prob = exp2_approximate(s[n][i] * c - (i % 2 == 0 ? pair.x : pair.z));
            if (keys.hidden(n, i, ahead)) prob = 0;
            s[n][i] = prob;
            dp[n][i] = prob * (dp[n][i] - (i % 2 == 0 ? pair.y : pair.w));
        }
    }
}

/// dp = dP^T becomes dS^T = P^T (dP^T - delta); s is P^T.
template <int kTiles>
__device__ __forceinline__ void score_gradients_by_key(float (&dp)[kTiles][4], const float (&s)[kTiles][4],
                                                       SharedAddress stats) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
        const float4 pair = load_shared_16(stats + n * 8 * static_cast<int>(sizeof(float2)));
#pragma unroll
        for (int i = 0; i < 4; ++i) dp[n][i] = s[n][i] * (dp[n][i] - (i % 2 == 0 ? pair.y : pair.w));
    }
}

/// s = S^T becomes P^T. With `mask`, P = 0 for queries more than `ahead` columns before the thread's first
/// key, or hidden by `keys`; without it, all queries are after the keys.
template <int kTiles, Mask kMask>
__device__ __forceinline__ void probabilities_of_keys(float (&s)[kTiles][4], SharedAddress stats, float c,
                                                      bool mask, int ahead, const KeyPair<kMask>& keys) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
        const float4 pair = load_shared_16(stats + n * 8 * static_cast<int>(sizeof(float2)));
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = exp2_approximate(s[n][i] * c - (i % 2 == 0 ? pair.x : pair.z));
    }
    if (!keys.template hides<kTiles>(ahead) && !mask) return;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (keys.hidden(n, i, ahead)) s[n][i] = 0;
        }
    }
}

}  // namespace pastur::attention
