#pragma once
// Kernels in which a group of threads owns a row: half a warp or a warp, in blocks of eight warps, or a whole
// block of four or eight warps. Thread t of a group owns vectors t, t + kGroup, ... of the row.
#include "kernels/cuda/numeric.cuh"

namespace pastur {

inline constexpr int kHalfWarp = kWarp / 2, kFourWarps = 4 * kWarp, kLargestGroup = 8 * kWarp;
template <int kGroup>
inline constexpr int kGroupThreads = kGroup <= kWarp ? 256 : kGroup;  ///< threads per block
template <int kGroup>
inline constexpr int kWarpsOf = kGroup <= kWarp ? 1 : kGroup / kWarp;

/// Number of vectors of a row that each thread keeps in registers, by the size of its group. Further vectors
/// of a wider row are read again from the cache. Only the largest group processes such rows.
struct KeptPacks {
    int warp, four_warps, eight_warps;
    /// Whether half a warp processes the rows that it can hold: a whole warp, with fewer vectors per thread,
    /// would have too few loads in flight.
    bool halves = false;
};
template <KeptPacks kKept, int kGroup>
inline constexpr int kPacksOf = kGroup <= kWarp        ? kKept.warp
                                : kGroup == kFourWarps ? kKept.four_warps
                                                       : kKept.eight_warps;

/// The first vector of a thread that is not kept in registers.
template <int kGroup, int kPacks>
__device__ int tail_begin(int thread, int count) {
    return kGroup == kLargestGroup ? thread + kPacks * kGroup : count;
}

/// Sum and maximum over the group, valid in all its threads. Successive calls alternate the parity (0, 1, 0,
/// ...) and may then share `shared` without a barrier in between: by the barrier of one call every thread has
/// read the numbers of the call before.
template <int kGroup>
__device__ float group_sum(float value, float (*shared)[kWarpsOf<kGroup>], int parity) {
    if constexpr (kGroup <= kWarp)
        return warp_sum<kGroup>(value);
    else
        return block_sum<kGroup>(value, shared[parity]);
}
template <int kGroup>
__device__ float group_max(float value, float (*shared)[kWarpsOf<kGroup>], int parity) {
    if constexpr (kGroup <= kWarp)
        return warp_max<kGroup>(value);
    else
        return block_max<kGroup>(value, shared[parity]);
}

/// Calls run.template operator()<kWidth, kGroup>() with wide accesses where every tensor is aligned for them,
/// and with the smallest group whose registers hold the row.
template <typename T, KeptPacks kKept, typename Run>
void visit_row_shape(int64_t width, bool aligned, const Run& run) {
    const auto choose = [&]<int kWidth>() {
        if constexpr (kKept.halves && kWidth > 1)
            if (width <= kHalfWarp * kKept.warp * kWidth) return run.template operator()<kWidth, kHalfWarp>();
        if (width <= kWarp * kKept.warp * kWidth)
            run.template operator()<kWidth, kWarp>();
        else if (width <= kFourWarps * kKept.four_warps * kWidth)
            run.template operator()<kWidth, kFourWarps>();
        else
            run.template operator()<kWidth, kLargestGroup>();
    };
    if (aligned && width % kVector<T> == 0)
        choose.template operator()<kVector<T>>();
    else
        choose.template operator()<1>();
}

}  // namespace pastur
