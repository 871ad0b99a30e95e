#pragma once
// Attention over sequences so short that one block of threads holds a whole (sequence, head) on chip: what
// the forward and the backward kernel share. Each warp owns 16 tokens, as queries and as keys.
#include <algorithm>

#include "kernels/cuda/attention_tile.cuh"

namespace pastur {

inline constexpr int kResidentWidth = 64;  ///< of queries with keys, and of values
inline constexpr int kBlockRows = 16;      ///< tokens of a warp
inline constexpr int kResidentWarps = 16;  ///< of a multiprocessor: 128 registers a thread
inline constexpr int kResidentTokens = kResidentWarps * kBlockRows;

/// The warp of this thread, in a form the compiler knows to be the same in all of its lanes.
__device__ inline int warp_index() {
    return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / 32, 0);
}

/// x, in a form that keeps the compiler from computing what follows from it earlier, and from keeping that in
/// registers meanwhile.
__device__ inline int computed_here(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

/// Which 16 tokens a warp owns. Their work grows or shrinks along the sequence, and warp w runs on scheduler
/// w % 4: with every second four dealt in reverse, the four schedulers have equal sums.
__device__ inline int block_of_warp(int warp) {
    return warp / 4 % 2 == 0 ? warp : warp ^ 3;
}

/// The (sequence, head) pairs of one block of threads, one after the other: runs of `run` neighbouring heads
/// of a sequence, dealt to the grid in turn. At any time the grid works on neighbours, whose rows share
/// memory pages.
struct HeadWalk {
    const AttentionSizes* sizes;
    int run, index;

    __device__ HeadWalk(const AttentionSizes& all, int run_length)
        : sizes(&all), run(run_length), index(static_cast<int>(blockIdx.x) * run_length) {}
    __device__ bool done() const { return index >= sizes->batch * sizes->heads; }
    __device__ int batch() const { return index / sizes->heads; }
    __device__ int head() const { return index % sizes->heads; }
    /// Of a sequence; none where the walk is done, so that nothing is read.
    __device__ int tokens() const { return done() ? 0 : sizes->tokens; }
    __device__ bool starts_run() const { return index % run == 0; }
    __device__ bool ends_run() const { return index % run == run - 1; }
    __device__ void advance() { index += ends_run() ? (static_cast<int>(gridDim.x) - 1) * run + 1 : 1; }
};

/// Rows of keys, or of their gradients: 64 columns of a head, or 32 of a head and 32 shared (`part` of them).
template <bool kSharedKey, typename T>
__device__ TokenRows<T> key_rows(const HeadView<T>& content, const HeadView<T>& shared, int batch, int head,
                                 int part) {
    if constexpr (!kSharedKey) return token_rows(content, batch, head, kResidentWidth);
    return {content.at(batch, head), shared.at(batch, part), content.token, shared.token,
            kResidentWidth / 2,      kResidentWidth};
}

/// Starts the copy of tokens [first, first + 16) into 16 rows of a tile; rows past the last token become
/// zero. One warp, 64 columns: whole lines of 128 bytes.
__device__ inline void copy_block(SharedAddress to, int pitch, const TokenRows<const bf16>& rows, int first,
                                  int tokens, int lane) {
    const int column = lane % 8 * 8;
    const auto source = rows.column(column);
#pragma unroll
    for (int r = lane / 8; r < kBlockRows; r += 4)
        copy_async_16(to + r * pitch + column * 2, source.at(first + r), first + r < tokens);
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

/// A warp's 16 tokens x 64 columns in registers, straight from memory in pieces of 16 bytes: lane (g, t) =
/// (lane / 4, lane % 4) has columns 8 t .. and 32 + 8 t .. of rows g and g + 8.
struct BlockChunks {
    Packed<bf16, 8> chunk[2][2];

    __device__ void request(const TokenRows<const bf16>& rows, int first, int tokens, int lane) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const auto source = rows.column(i * 32 + lane % 4 * 8);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int token = first + lane / 4 + half * 8;
                chunk[half][i] = {};
                if (token < tokens) chunk[half][i] = Packed<bf16, 8>::load(source.at(token));
            }
        }
    }

    /// Gives the rows as operand A of a product over the columns.
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

/// Writes columns [32 kFrom, 32 kTo) of a warp's 16 x 64 accumulators, times a factor for the rows g and one
/// for the rows g + 8, to tokens first ... of `rows`: quads exchange words, so that every lane writes 16
/// bytes and whole sectors leave the chip.
template <int kFrom = 0, int kTo = 2>
__device__ void store_block(const TokenRows<bf16>& rows, const float (&acc)[8][4], float factor0,
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

/// Calls run.template operator()<kWarps>() with the fewest warps whose tokens hold the sequence.
template <typename Run>
void visit_resident_warps(int tokens, const Run& run) {
    if (tokens <= 4 * kBlockRows)
        run.template operator()<4>();
    else if (tokens <= 8 * kBlockRows)
        run.template operator()<8>();
    else
        run.template operator()<16>();
}

/// Whether the resident kernels are made for heads of these widths.
inline bool resident_widths(const AttentionSizes& sizes) {
    return sizes.tokens <= kResidentTokens && sizes.query_key() == kResidentWidth &&
           sizes.value == kResidentWidth && (sizes.rotary == 0 || sizes.rotary == kResidentWidth / 2);
}

/// How many blocks of `warps` warps ctx's device holds at a time.
inline int resident_slots(CudaContext& ctx, int warps) {
    return ctx.handles().properties.multiProcessorCount * (kResidentWarps / warps);
}

}  // namespace pastur
