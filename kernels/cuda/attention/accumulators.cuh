#pragma once
// A warp's fp32 accumulators (layout C of mma.cuh): clearing, rounding to bf16, and storing to memory.
#include "kernels/cuda/attention/token_rows.cuh"
#include "kernels/cuda/mma.cuh"

namespace pastur::attention {

template <int kTiles>
__device__ void clear(float (&acc)[kTiles][4]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[n][i] = 0;
    }
}

/// Rounds accumulators to bf16. Two neighbouring tiles have the layout of one operand A.
template <int kTiles>
__device__ __forceinline__ void to_fragments(uint32_t (&fragments)[kTiles / 2][4],
                                             const float (&acc)[kTiles][4]) {
#pragma unroll
    for (int k = 0; k < kTiles / 2; ++k) {
        fragments[k][0] = pack_bf16(acc[2 * k][0], acc[2 * k][1]);
        fragments[k][1] = pack_bf16(acc[2 * k][2], acc[2 * k][3]);
        fragments[k][2] = pack_bf16(acc[2 * k + 1][0], acc[2 * k + 1][1]);
        fragments[k][3] = pack_bf16(acc[2 * k + 1][2], acc[2 * k + 1][3]);
    }
}

/// Stores a warp's 16 x kWidth accumulators to tokens first ... of `rows`, times factor0 (rows g) and factor1
/// (rows g + 8). They pass through 16 rows of shared memory, kPitch bytes apart, that no other warp uses:
/// every lane then writes 16 bytes and whole sectors leave the chip.
template <int kWidth, int kPitch>
__device__ void store_fragments(const TokenRows<bf16>& rows, const float (&acc)[kWidth / 8][4], float factor0,
                                float factor1, std::byte* staging, int first, int tokens, int lane) {
    static_assert(kPitch >= kWidth * 2);
    __syncwarp();
    std::byte* at = staging + lane / 4 * kPitch + lane % 4 * 4;
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
        *reinterpret_cast<uint32_t*>(at + n * 16) = pack_bf16(acc[n][0] * factor0, acc[n][1] * factor0);
        *reinterpret_cast<uint32_t*>(at + n * 16 + 8 * kPitch) =
            pack_bf16(acc[n][2] * factor1, acc[n][3] * factor1);
    }
    __syncwarp();
    constexpr int kLanes = kWidth % 64 == 0 ? 8 : 4;
#pragma unroll
    for (int i = 0; i < kWidth / (8 * kLanes); ++i) {
        const int column = (lane % kLanes + i * kLanes) * 8;
        if (column >= rows.width) continue;
        const auto to = rows.column(column);
#pragma unroll
        for (int r = lane / kLanes; r < 16; r += 32 / kLanes) {
            const int token = first + r;
            if (token >= tokens) continue;
            *reinterpret_cast<uint4*>(to.at(token)) =
                *reinterpret_cast<const uint4*>(staging + r * kPitch + column * 2);
        }
    }
}

/// Transposes 4 x 4 words over the four lanes of a quad: word j of lane t becomes word t of lane j.
__device__ inline void transpose_quad(uint32_t (&words)[4], int lane) {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
        const bool upper = lane & bit;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & bit) continue;
            const uint32_t mine = upper ? words[i] : words[i | bit];
            const uint32_t theirs = __shfl_xor_sync(kAllLanes, mine, bit);
            if (upper)
                words[i] = theirs;
            else
                words[i | bit] = theirs;
        }
    }
}

/// Stores columns [32 kFrom, 32 kTo) of a warp's 16 rows of accumulators to tokens first ... of `rows`, times
/// factor0 (rows g) and factor1 (rows g + 8). Quads exchange words, so every lane writes 16 bytes and whole
/// sectors leave the chip; no shared memory is needed.
template <int kFrom, int kTo, int kTiles>
__device__ void store_columns(const TokenRows<bf16>& rows, const float (&acc)[kTiles][4], float factor0,
                              float factor1, int first, int tokens, int lane) {
#pragma unroll
    for (int i = kFrom; i < kTo; ++i) {
        const auto to = rows.column(i * 32 + lane % 4 * 8);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float factor = half == 0 ? factor0 : factor1;
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float(&pair)[4] = acc[i * 4 + j];
                words[j] = pack_bf16(pair[2 * half] * factor, pair[2 * half + 1] * factor);
            }
            transpose_quad(words, lane);
            const int token = first + lane / 4 + half * 8;
            if (token < tokens)
                *reinterpret_cast<uint4*>(to.at(token)) = {words[0], words[1], words[2], words[3]};
        }
    }
}

/// store_columns of all columns.
template <int kTiles>
__device__ void store_block(const TokenRows<bf16>& rows, const float (&acc)[kTiles][4], float factor0,
                            float factor1, int first, int tokens, int lane) {
    store_columns<0, kTiles / 4>(rows, acc, factor0, factor1, first, tokens, lane);
}

}  // namespace pastur::attention
