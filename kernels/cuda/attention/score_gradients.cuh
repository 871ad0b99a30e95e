#pragma once
// What a warpgroup of Hopper's attention backward kernels computes of its keys' scores between products, and
// how it leaves results in shared memory.
#include "kernels/cuda/attention/wgmma_tiles.cuh"

namespace pastur::attention {

#if defined(PASTUR_HOPPER)

/// dp = dP^T becomes dS^T = P^T (dP^T - delta); a thread's rows are keys, delta belongs to columns.
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

/// s = S^T becomes P^T. Queries more than `ahead` columns before the thread's first key have P = 0.
template <int kTiles>
__device__ __forceinline__ void probabilities_of_keys(float (&s)[kTiles][4], SharedAddress stats, float c,
                                                      bool mask, int ahead) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
        const float4 pair = load_shared_16(stats + n * 8 * static_cast<int>(sizeof(float2)));
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = exp2_approximate(s[n][i] * c - (i % 2 == 0 ? pair.x : pair.z));
    }
    if (!mask) return;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i / 2 * 8 - n * 8 - i % 2 > ahead) s[n][i] = 0;
        }
    }
}

/// dS^T of a warp's 16 keys, as SwizzledRows has it.
template <int kFragments>
__device__ __forceinline__ void store_scores(SharedAddress scores, const uint32_t (&ds)[kFragments][4],
                                             int row, int lane) {
    constexpr int kRowBytes = kFragments * 32;
    const SharedAddress line = scores + (row + lane / 8 % 2 * 8 + lane % 8) * kRowBytes;
#pragma unroll
    for (int k = 0; k < kFragments; ++k)
        store_matrices(line + swizzled<kRowBytes>(lane % 8, 2 * k + lane / 16) * 16, ds[k]);
}

/// A part of a warp's accumulators, kTiles tiles from kFirst on, times `factor`, to lines `row` ... of such a
/// part in shared memory, where tensor copies take them from.
template <int kFirst, int kTiles, int kAll>
__device__ __forceinline__ void put_part(SharedAddress part, const float (&acc)[kAll][4], float factor,
                                         int row, int lane) {
    uint32_t rounded[kTiles / 2][4];
#pragma unroll
    for (int k = 0; k < kTiles / 2; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float(&pair)[4] = acc[kFirst + 2 * k + i / 2];
            rounded[k][i] = pack_bf16(pair[i % 2 * 2] * factor, pair[i % 2 * 2 + 1] * factor);
        }
    }
    store_scores(part, rounded, row, lane);
}
/// All of them to Rows, SwizzledRows of 16.
template <typename Rows, int kTiles>
__device__ __forceinline__ void put_rows(SharedAddress rows, const float (&acc)[kTiles][4], float factor,
                                         int lane) {
    static_assert(kTiles == Rows::kWidth / 8);
    unrolled<Rows::kParts>([&]<int kIndex>() __attribute__((always_inline)) {
        constexpr auto kPart = Rows::part(kIndex);
        put_part<kPart.column / 8, kPart.width / 8>(rows + kPart.column * (Rows::kBytes / Rows::kWidth), acc,
                                                    factor, 0, lane);
    });
}

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention
