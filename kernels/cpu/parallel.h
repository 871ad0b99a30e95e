#pragma once
#include <cstdint>

#include "kernels/base/context.h"

namespace pastur {

/// The calling thread does less work than this (in operations, roughly) alone: waking other threads costs
/// more, and on a loaded machine waiting for them costs much more.
inline constexpr int64_t kParallelWork = 1 << 15;

/// Calls body(i) for i in [0, count), in any order, on the context's threads. `work`: operations per call.
template <typename Body>
void parallel_for(CpuContext& ctx, int64_t count, int64_t work, const Body& body) {
#pragma omp parallel for num_threads(ctx.threads()) schedule(static) if (count * work > kParallelWork)
    for (int64_t i = 0; i < count; ++i) body(i);
}

/// Calls body(begin, end) for pieces of [0, count). The size of a piece does not depend on the number of
/// threads, and so neither do sums over a piece. `work`: operations per element.
template <typename Body>
void parallel_for_pieces(CpuContext& ctx, int64_t count, int64_t piece, int64_t work, const Body& body) {
    parallel_for(ctx, (count + piece - 1) / piece, piece * work, [&](int64_t i) {
        const int64_t begin = i * piece;
        body(begin, begin + piece < count ? begin + piece : count);
    });
}

}  // namespace pastur
