#pragma once
// Synchronisation of warpgroups around the ring of stages in hopper_tiles.cuh.
#include "kernels/cuda/hopper_tiles.cuh"

namespace pastur::attention {

#if defined(PASTUR_HOPPER)

/// Lets consumer warpgroups issue their wgmmas in turn, so the tensor cores work for one while the others
/// compute softmax or gradients. All warpgroups take the same number of turns.
template <int kConsumers>
struct Turns {
    int group;

    __device__ __forceinline__ void start() const {
        if (group == kConsumers - 1) pass();
    }
    __device__ __forceinline__ void wait() const { barrier_wait(1 + group, 2 * kWarpgroup); }
    __device__ __forceinline__ void pass() const {
        barrier_arrive(1 + (group + 1 == kConsumers ? 0 : group + 1), 2 * kWarpgroup);
    }
    __device__ __forceinline__ void sit_out() const {
        wait();
        pass();
    }
};

/// Marks a stage as free, for this thread. Every thread arrives: that is as fast as one arrival a warp, and
/// racecheck can follow it.
__device__ __forceinline__ void release(SharedAddress barrier) {
    mbarrier_arrive(barrier);
}

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention
