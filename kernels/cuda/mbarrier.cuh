#pragma once
// Barriers in shared memory (PTX "mbarrier"): some threads tell others that a phase is complete. A barrier
// runs through phases, and a waiter names the one it waits for by its parity: 0, 1, 0 ...
#include "kernels/cuda/mma.cuh"

namespace pastur {

/// One thread; then __syncthreads before anybody uses the barrier, 8 bytes at a multiple of 8.
__device__ inline void mbarrier_init(SharedAddress barrier, int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// What this thread wrote or saw before is seen by those who wait.
__device__ inline void mbarrier_arrive(SharedAddress barrier) {
    [[maybe_unused]] uint64_t state;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(state) : "r"(barrier) : "memory");
}

/// Whether the phase of this parity is complete.
__device__ inline bool mbarrier_complete(SharedAddress barrier, int parity) {
    uint32_t complete;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(complete)
        : "r"(barrier), "r"(parity)
        : "memory");
    return complete != 0;
}

/// Waits for it; a whole warp.
__device__ inline void mbarrier_wait(SharedAddress barrier, int parity) {
    while (!mbarrier_complete(barrier, parity)) {
    }
    __syncwarp();
}

}  // namespace pastur
