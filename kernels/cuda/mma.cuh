#pragma once
// PTX instructions of Ampere and later for attention and the quantisation of columns: asynchronous copies
// into shared memory, named barriers, acquire and release between blocks, ldmatrix, and the bf16 mma
// m16n8k16. Other files use them through these functions.
//
// Fragments, with g = lane / 4 and t = lane % 4 (PTX ISA, "mma.m16n8k16"):
//     A 16 x 16: a[0] = (row g, columns 2t, 2t + 1), a[1] = (g + 8, 2t ..), a[2] = (g, 2t + 8 ..),
//                a[3] = (g + 8, 2t + 8 ..)
//     B 16 x 8:  b[0] = (rows 2t, 2t + 1, column g), b[1] = (rows 2t + 8, 2t + 9, column g)
//     C 16 x 8:  c[0], c[1] = (row g, columns 2t, 2t + 1), c[2], c[3] = (row g + 8, columns 2t, 2t + 1)
#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>

namespace pastur {

/// An address in the 32-bit window of shared memory.
using SharedAddress = uint32_t;

__device__ inline SharedAddress shared_address(const void* pointer) {
    return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}

/// The block's dynamic shared memory.
__device__ inline std::byte* dynamic_shared() {
    extern __shared__ uint4 memory[];
    return reinterpret_cast<std::byte*>(memory);
}

/// Copies 16 bytes asynchronously. If !valid it writes 16 zero bytes, and `from` is not read and may be any
/// address.
__device__ inline void copy_async_16(SharedAddress to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}

/// Copies 8 bytes asynchronously, or zeros, as copy_async_16.
__device__ inline void copy_async_8(SharedAddress to, const void* from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(valid ? 8 : 0)
                 : "memory");
}

/// Ends the group of this thread's copies since the last call.
__device__ inline void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most kPending of this thread's groups are unfinished. A barrier must follow before other
/// threads read the copied bytes.
template <int kPending>
__device__ inline void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Named barrier `id` (1 to 15; __syncthreads is 0) for `threads` threads in whole warps. barrier_arrive does
/// not wait; barrier_wait arrives and waits for all. Writes before arriving are visible after waiting.
__device__ inline void barrier_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void barrier_wait(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Acquire and release of a number in memory: earlier writes of the releasing thread are visible to a thread
/// of another block that acquires its value.
__device__ __forceinline__ int load_acquire(const int* from) {
    int x;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(x) : "l"(from) : "memory");
    return x;
}
__device__ __forceinline__ void store_release(int* to, int x) {
    asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(to), "r"(x) : "memory");
}
__device__ __forceinline__ void add_release(int* to, int x) {
    asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(to), "r"(x) : "memory");
}

/// Loads 16 bytes from a multiple of 16.
__device__ inline float4 load_shared_16(SharedAddress from) {
    float4 x;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "r"(from)
                 : "memory");
    return x;
}

/// Loads four 8 x 8 matrices of bf16. Lanes 8 i to 8 i + 7 hold the addresses of the rows of matrix i; r[i]
/// receives its (row g, columns 2t, 2t + 1).
__device__ inline void load_matrices(uint32_t (&r)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/// Loads four 8 x 8 matrices of bf16 transposed: r[i] receives (rows 2t, 2t + 1, column g).
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], SharedAddress row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/// c += a b, with fp32 accumulators.
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// 2^x in one instruction, with relative error 2^-22. Results below 2^-126 become 0.
__device__ inline float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// Two numbers rounded to bf16, with `low` in the lower half.
__device__ inline uint32_t pack_bf16(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

}  // namespace pastur
