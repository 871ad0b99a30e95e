#pragma once
// Kernels in which a row belongs to a group of threads: a warp (eight in a block), half of one, or a whole
// block of four or eight. Thread t of a group has the vectors t, t + kGroup, ... of its row.
#include "kernels/cuda/numeric.cuh"

namespace pastur {

inline constexpr int kHalfWarp = kWarp / 2, kFourWarps = 4 * kWarp, kLargestGroup = 8 * kWarp;
template <int kGroup>
inline constexpr int kGroupThreads = kGroup <= kWarp ? 256 : kGroup;  ///< of a block
template <int kGroup>
inline constexpr int kWarpsOf = kGroup <= kWarp ? 1 : kGroup / kWarp;

/// How many vectors of a row each thread keeps in registers, by the size of its group. What a wider row has
/// beyond them is read again from the cache: by the largest group, as no other meets such rows.
struct KeptPacks {
    int warp, four_warps, eight_warps;
    /// Whether half a warp takes what it can hold. One that has a few vectors of a narrow row for each of its
    /// threads has too little on its way from memory.
    bool halves = false;
};
template <KeptPacks kKept, int kGroup>
inline constexpr int kPacksOf = kGroup <= kWarp        ? kKept.warp
                                : kGroup == kFourWarps ? kKept.four_warps
                                                       : kKept.eight_warps;

/// The thread's first vector of a row beyond the kept ones.
template <int kGroup, int kPacks>
__device__ int tail_begin(int thread, int count) {
    return kGroup == kLargestGroup ? thread + kPacks * kGroup : count;
}

/// Sum and maximum over the group, valid in all its threads. `shared` serves calls in turn (parity 0, 1, 0,
/// ...): by the barrier of the next call every thread has read the previous one's numbers.
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

/// Calls run.template operator()<kWidth, kGroup>(): wide accesses where every tensor allows them, and the
/// smallest group whose registers hold the row.
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
