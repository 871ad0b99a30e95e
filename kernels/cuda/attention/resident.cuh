#pragma once
// Attention over sequences so short that one block of threads holds a whole (sequence, head) on chip: what
// the forward and the backward kernel share. Each warp owns 16 tokens, as queries and as keys.
#include <algorithm>

#include "kernels/cuda/attention/mma_tiles.cuh"

namespace pastur::attention {

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
    const Sizes* sizes;
    int run, index;

    __device__ HeadWalk(const Sizes& all, int run_length)
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
inline bool resident_widths(const Sizes& sizes) {
    return sizes.tokens <= kResidentTokens && sizes.query_key() == kResidentWidth &&
           sizes.value == kResidentWidth && (sizes.rotary == 0 || sizes.rotary == kResidentWidth / 2);
}

/// What a forward kernel rotates: of a query all columns, or the half that part of the key shared by all
/// heads, which is rotated already, stands beside.
enum class Rotated { kNothing, kQueriesAndKeys, kQueries, kHalfQueries };

/// How many blocks of `warps` warps ctx's device holds at a time.
inline int resident_slots(CudaContext& ctx, int warps) {
    return ctx.handles().properties.multiProcessorCount * (kResidentWarps / warps);
}

}  // namespace pastur::attention
