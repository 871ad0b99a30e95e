#pragma once
// Work division and copies that both passes of mma-resident share. A warp owns 16 tokens of a head.
#include <algorithm>

#include "kernels/cuda/attention/mma/tiles.cuh"
#include "kernels/cuda/attention/resident.cuh"
#include "kernels/cuda/launch.cuh"

namespace pastur::attention::mma_resident {

/// The tile of 16 tokens that a warp owns. Work per tile grows or shrinks along the sequence, and warp w runs
/// on scheduler w % 4: reversing every second group of four gives the four schedulers equal sums.
__device__ inline int tile_of_warp(int warp) {
    return warp / 4 % 2 == 0 ? warp : warp ^ 3;
}

/// A warp's 16 tokens x 64 columns in registers, loaded from memory in pieces of 16 bytes: lane (g, t) =
/// (lane / 4, lane % 4) has columns 8 t ... and 32 + 8 t ... of rows g and g + 8.
struct RowChunks {
    Packed<bf16, 8> chunk[2][2];

    __device__ void request(const TokenRows<const bf16>& rows, int first, int tokens, int lane,
                            int first_column = 0) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const auto source = rows.column(first_column + i * 32 + lane % 4 * 8);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int token = first + lane / 4 + half * 8;
                chunk[half][i] = {};
                if (token < tokens) chunk[half][i] = Packed<bf16, 8>::load(source.at(token));
            }
        }
    }

    /// The rows as operand A of a GEMM over the columns.
    __device__ void to_fragments(uint32_t (&a)[4][4], int lane) const {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                uint32_t words[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) words[j] = chunk[half][i].words[j];
                transpose_quad(words, lane);
#pragma unroll
                for (int j = 0; j < 4; ++j) a[i * 2 + j / 2][half + j % 2 * 2] = words[j];
            }
        }
    }
};

/// Rows of keys or of their gradients: 64 columns of a head, or 32 of a head and 32 shared ones (head
/// `part`).
template <bool kSharedKey, typename T>
__device__ TokenRows<T> key_rows(const HeadView<T>& content, const HeadView<T>& shared, int batch, int head,
                                 int part) {
    if constexpr (!kSharedKey) return token_rows(content, batch, head, kResidentWidth);
    return {content.at(batch, head), shared.at(batch, part), content.token, shared.token,
            kResidentWidth / 2,      kResidentWidth};
}

/// Starts the copy of tokens [first, first + 16) to 16 rows of a tile; rows past the last token become zero.
/// For one warp and 64 columns: whole lines of 128 bytes.
__device__ inline void copy_tile(SharedAddress to, int pitch, const TokenRows<const bf16>& rows, int first,
                                 int tokens, int lane) {
    const int column = lane % 8 * 8;
    const auto source = rows.column(column);
#pragma unroll
    for (int r = lane / 8; r < kWarpRows; r += 4)
        copy_async_16(to + r * pitch + column * 2, source.at(first + r), first + r < tokens);
}

/// Calls run.template operator()<kWarps>() with the fewest warps whose tokens hold the sequence.
template <typename Run>
void visit_warps(int tokens, const Run& run) {
    if (tokens <= 4 * kWarpRows)
        run.template operator()<4>();
    else if (tokens <= 8 * kWarpRows)
        run.template operator()<8>();
    else
        run.template operator()<16>();
}

/// Number of CTAs of `warps` warps that ctx's device runs at a time.
inline int cta_slots(CudaContext& ctx, int warps) {
    return ctx.handles().properties.multiProcessorCount * (kResidentWarps / warps);
}

}  // namespace pastur::attention::mma_resident
