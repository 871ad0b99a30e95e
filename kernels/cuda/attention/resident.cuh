#pragma once
// Widths and the order of heads of the resident paths, in which one CTA holds a whole (sequence, head) on
// chip.
#include "kernels/cuda/attention/params.h"

namespace pastur::attention {

inline constexpr int kResidentWidth = 64;  ///< columns of a query, a key and a value
inline constexpr int kWarpRows = 16;       ///< tokens of a warp
inline constexpr int kResidentWarps = 16;  ///< warps of a multiprocessor: 128 registers a thread
inline constexpr int kResidentTokens = kResidentWarps * kWarpRows;

/// The thread's warp, in a form that the compiler knows to be equal in all lanes.
__device__ inline int warp_index() {
    return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / 32, 0);
}

/// x behind a compiler barrier: what depends on it is computed after this point instead of being computed
/// earlier and kept in registers.
__device__ inline int computed_here(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

/// The (sequence, head) pairs of one CTA in order: runs of `run` neighbouring heads of a sequence, dealt to
/// the grid in turn. At any time the grid works on neighbours, whose rows share memory pages.
struct HeadWalk {
    const Sizes* sizes;
    int run, index;

    __device__ HeadWalk(const Sizes& all, int run_length)
        : sizes(&all), run(run_length), index(static_cast<int>(blockIdx.x) * run_length) {}
    __device__ bool done() const { return index >= sizes->batch * sizes->heads; }
    __device__ int batch() const { return index / sizes->heads; }
    __device__ int head() const { return index % sizes->heads; }
    /// Tokens of the sequence; 0 where the walk is done, so nothing is read.
    __device__ int tokens() const { return done() ? 0 : sizes->tokens; }
    __device__ bool starts_run() const { return index % run == 0; }
    __device__ bool ends_run() const { return index % run == run - 1; }
    __device__ void advance() { index += ends_run() ? (static_cast<int>(gridDim.x) - 1) * run + 1 : 1; }
};

/// Whether the resident paths have kernels for these lengths, widths and strides.
inline bool resident_widths(const Sizes& sizes) {
    return sizes.tokens <= kResidentTokens && sizes.query_key() == kResidentWidth &&
           sizes.value == kResidentWidth && (sizes.rotary == 0 || sizes.rotary == kResidentWidth / 2) &&
           (sizes.stride == 1 || sizes.rotary > 0);
}

/// What a forward kernel rotates. kHalfQueries: the rotary half of each query, where half of the key is
/// shared by all heads and has been rotated before.
enum class Rotated { kNothing, kQueriesAndKeys, kQueries, kHalfQueries };

}  // namespace pastur::attention
