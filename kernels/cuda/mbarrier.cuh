#pragma once
// Barriers in shared memory (PTX "mbarrier"), by which some threads signal others that a phase is complete.
// The phases of a barrier have parity 0, 1, 0 ..., and a waiter names the phase it waits for by its parity.
#include "kernels/cuda/mma.cuh"

namespace pastur {

/// Called by one thread, and followed by __syncthreads before the first use. The barrier is 8 bytes at a
/// multiple of 8.
__device__ inline void mbarrier_init(SharedAddress barrier, int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// Arrives at the barrier. Earlier writes of this thread, and writes it has observed, are visible to waiting
/// threads.
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

/// Waits for the phase of this parity; called by a whole warp.
__device__ inline void mbarrier_wait(SharedAddress barrier, int parity) {
    while (!mbarrier_complete(barrier, parity)) {
    }
    __syncwarp();
}

}  // namespace pastur
