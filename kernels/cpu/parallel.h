#pragma once
#include <cstdint>

#include "kernels/base/context.h"

namespace pastur {

/// Less work than this (operations, roughly) is done by the calling thread: waking the others costs more, and
/// on a machine busy with something else waiting for them costs much more.
inline constexpr int64_t kParallelWork = 1 << 15;

/// body(i) for i in [0, count), in any order, on the context's threads; `work`: operations of one i.
template <typename Body>
void parallel_for(CpuContext& ctx, int64_t count, int64_t work, const Body& body) {
#pragma omp parallel for num_threads(ctx.threads()) schedule(static) if (count * work > kParallelWork)
    for (int64_t i = 0; i < count; ++i) body(i);
}

/// body(begin, end) for pieces of [0, count) of a size that does not depend on the number of threads, so that
/// sums over a piece do not either; `work`: operations of one element.
template <typename Body>
void parallel_for_pieces(CpuContext& ctx, int64_t count, int64_t piece, int64_t work, const Body& body) {
    parallel_for(ctx, (count + piece - 1) / piece, piece * work, [&](int64_t i) {
        const int64_t begin = i * piece;
        body(begin, begin + piece < count ? begin + piece : count);
    });
}

}  // namespace pastur
