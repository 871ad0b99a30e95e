#pragma once
#include <cstdint>

#include "kernels/context.h"

namespace pastur {

/// body(i) for i in [0, count), in any order, on the context's threads.
template <typename Body>
void parallel_for(CpuContext& ctx, int64_t count, const Body& body) {
#pragma omp parallel for num_threads(ctx.threads()) schedule(static)
    for (int64_t i = 0; i < count; ++i) body(i);
}

/// body(begin, end) for pieces of [0, count) of a size that does not depend on the number of threads, so that
/// sums over a piece do not either.
template <typename Body>
void parallel_for_pieces(CpuContext& ctx, int64_t count, int64_t piece, const Body& body) {
    parallel_for(ctx, (count + piece - 1) / piece, [&](int64_t i) {
        const int64_t begin = i * piece;
        body(begin, begin + piece < count ? begin + piece : count);
    });
}

}  // namespace pastur
