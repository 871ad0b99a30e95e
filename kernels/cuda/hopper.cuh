#pragma once
// The instructions of Hopper (sm_90a) that its attention kernels are built from: tensor copies by the copy
// engine, which complete on barriers in shared memory, and matrix products of a warpgroup
// (four warps, "wgmma") that read shared memory by descriptors. Nothing else here knows their PTX.
#include <cuda.h>

#include <utility>

#include "kernels/cuda/mbarrier.cuh"

// Device code for other architectures compiles to empty kernels, which are never launched there.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PASTUR_HOPPER 1
#endif
// Of a kernel whose blocks come in clusters of two, which compilers for other architectures may refuse.
#if defined(__CUDA_ARCH__) && !defined(PASTUR_HOPPER)
#define PASTUR_PAIRS_OF_BLOCKS
#else
#define PASTUR_PAIRS_OF_BLOCKS __cluster_dims__(2, 1, 1)
#endif

namespace pastur {

/// Calls run.operator()<0>(), ... <kCount - 1>().
template <int kCount, typename Run>
__device__ __forceinline__ void unrolled(const Run& run) {
    [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
        (run.template operator()<kIndex>(), ...);
    }
    (std::make_integer_sequence<int, kCount>());
}

#if defined(PASTUR_HOPPER)

/// One arrival, and `bytes` of copies that the phase waits for too.
__device__ __forceinline__ void mbarrier_expect(SharedAddress barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/// Waits for the phase of this parity; any threads.
__device__ __forceinline__ void mbarrier_sleep(SharedAddress barrier, int parity) {
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n"
        "@p bra done;\n"
        "bra again;\n"
        "done:\n"
        "}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

/// Makes initialised barriers visible to the copy engine; then __syncthreads.
__device__ __forceinline__ void mbarrier_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Starts the copy of the map's box at (column, token, head, batch); rows past the tensor's end arrive as
/// zeros and count as bytes. One thread.
__device__ __forceinline__ void copy_box(SharedAddress to, const CUtensorMap& map, SharedAddress barrier,
                                         int column, int token, int head, int batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
        "%4, "
        "%5, %6}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(column), "r"(token), "r"(head), "r"(batch)
        : "memory");
}

/// The same box to the same place of both blocks of a cluster of two, each of whose barriers there counts it.
__device__ __forceinline__ void copy_box_to_both(SharedAddress to, const CUtensorMap& map,
                                                 SharedAddress barrier, int column, int token, int head,
                                                 int batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(column), "r"(token), "r"(head), "r"(batch),
        "h"(static_cast<unsigned short>(3))
        : "memory");
}

/// This block's number in its cluster.
__device__ __forceinline__ int cluster_rank() {
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
/// __syncthreads of all blocks of a cluster.
__device__ __forceinline__ void cluster_sync() {
    asm volatile(
        "barrier.cluster.arrive.release.aligned;\n"
        "barrier.cluster.wait.acquire.aligned;" ::
            : "memory");
}
/// mbarrier_arrive at the barrier in the same place of block `rank` of the cluster.
__device__ __forceinline__ void mbarrier_arrive_at(SharedAddress barrier, int rank) {
    asm volatile(
        "{\n"
        ".reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
        "}" ::"r"(barrier),
        "r"(rank)
        : "memory");
}

/// Starts the copy of `bytes`, a multiple of 16, between addresses that are. One thread.
__device__ __forceinline__ void copy_bytes(SharedAddress to, const void* from, int bytes,
                                           SharedAddress barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier)
        : "memory");
}

/// Starts the copy of the map's box at (column, token, head, batch) from shared memory; what lies past the
/// tensor's end is left out. One thread, after shared_written by all who wrote it and a barrier of theirs.
__device__ __forceinline__ void store_box(const CUtensorMap& map, SharedAddress from, int column, int token,
                                          int head, int batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
            &map),
        "r"(from), "r"(column), "r"(token), "r"(head), "r"(batch)
        : "memory");
}
/// Closes the group of this thread's stores since the last call.
__device__ __forceinline__ void stores_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Waits until at most kPending of this thread's groups have still to read shared memory.
template <int kPending>
__device__ __forceinline__ void stores_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
/// Waits until all of this thread's groups are done: what they wrote, other threads may be told of.
__device__ __forceinline__ void stores_done() {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
/// Starts to write `bytes`, a multiple of 16, to memory, or to add them as fp32 numbers to what is there;
/// one thread, as store_box.
__device__ __forceinline__ void store_bytes(void* to, SharedAddress from, int bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from),
                 "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void add_floats(float* to, SharedAddress from, int bytes) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to),
                 "r"(from), "r"(bytes)
                 : "memory");
}
/// Orders this thread's accesses to memory with those of the copy engine that it starts or has seen done.
__device__ __forceinline__ void memory_and_copies() {
    asm volatile("fence.proxy.async.global;" ::: "memory");
}

/// Four 8 x 8 matrices of bf16, the other way of load_matrices.
__device__ __forceinline__ void store_matrices(SharedAddress row, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r[0]),
                 "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}
/// 16 bytes at a multiple of 16.
__device__ __forceinline__ void store_shared_16(SharedAddress to, const float (&x)[4]) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]),
                 "f"(x[3])
                 : "memory");
}

/// What this thread wrote to shared memory is seen by products and copies that start after the next barrier.
__device__ __forceinline__ void shared_written() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// The registers of each thread from here on, a multiple of 8; a whole warpgroup.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// Before the first product of a batch: registers written so far are seen by it.
__device__ __forceinline__ void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Closes the group of the products since the last call.
__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kPending groups are unfinished; groups finish in order.
template <int kPending>
__device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Keeps the compiler from moving reads of accumulators before the wait.
template <int kTiles>
__device__ __forceinline__ void products_done(float (&acc)[kTiles][4]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(acc[n][i])::"memory");
    }
}

// Accumulators of a warpgroup's 64 x kN product, kN / 8 tiles of 4 as mma.sync has them, warp w owning rows
// 16 w ...; as asm operands from tile kFirst on.
#define PASTUR_TILE(i)                                                                  \
    "+f"(acc[kFirst + (i)][0]), "+f"(acc[kFirst + (i)][1]), "+f"(acc[kFirst + (i)][2]), \
        "+f"(acc[kFirst + (i)][3])
#define PASTUR_TILES_2(i) PASTUR_TILE(i), PASTUR_TILE(i + 1)
#define PASTUR_TILES_4(i) PASTUR_TILES_2(i), PASTUR_TILES_2(i + 2)
#define PASTUR_TILES_8(i) PASTUR_TILES_4(i), PASTUR_TILES_4(i + 4)
#define PASTUR_REGISTERS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define PASTUR_REGISTERS_16 PASTUR_REGISTERS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define PASTUR_REGISTERS_32 \
    PASTUR_REGISTERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PASTUR_TILES_16(i) PASTUR_TILES_8(i), PASTUR_TILES_8(i + 8)
#define PASTUR_REGISTERS_64                                                                                  \
    PASTUR_REGISTERS_32                                                                                      \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, " \
    "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PASTUR_REGISTERS_128                                                                            \
    PASTUR_REGISTERS_64                                                                                 \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, " \
    "%83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, " \
    "%102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, "  \
    "%118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// acc = (keep ? acc : 0) + A B, both described in shared memory: A 64 x 16 and B kN x 16 by rows ("0, 0"), or
// A 16 x 64 and B 16 x kN, by columns ("1, 1").
#define PASTUR_PRODUCT_SHARED(n, transposes, registers, a_, b_, keep_, ...)                               \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" keep_                                               \
                 ", 0;\n"                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" registers "}, %" a_ ", %" b_ \
                 ", p, 1, 1, " transposes ";\n}"                                                          \
                 : __VA_ARGS__                                                                            \
                 : "l"(a), "l"(b), "r"(static_cast<int>(keep)))

/// Operands are rows of columns: acc = (keep ? acc : 0) + A B^T over 16 columns of both.
template <int kN, int kFirst = 0, int kTiles>
__device__ __forceinline__ void product_of_rows(float (&acc)[kTiles][4], uint64_t a, uint64_t b, bool keep) {
    static_assert(kN == 32 || kN == 64 || kN == 128 || kN == 256);
    if constexpr (kN == 32)
        PASTUR_PRODUCT_SHARED("32", "0, 0", PASTUR_REGISTERS_16, "16", "17", "18", PASTUR_TILES_4(0));
    else if constexpr (kN == 64)
        PASTUR_PRODUCT_SHARED("64", "0, 0", PASTUR_REGISTERS_32, "32", "33", "34", PASTUR_TILES_8(0));
    else if constexpr (kN == 128)
        PASTUR_PRODUCT_SHARED("128", "0, 0", PASTUR_REGISTERS_64, "64", "65", "66", PASTUR_TILES_16(0));
    else
        PASTUR_PRODUCT_SHARED("256", "0, 0", PASTUR_REGISTERS_128, "128", "129", "130", PASTUR_TILES_16(0),
                              PASTUR_TILES_16(16));
}

/// acc = (keep ? acc : 0) + A B: A 64 rows of 16 columns, B 16 rows of 256 columns.
template <int kTiles>
__device__ __forceinline__ void product_of_rows_and_columns(float (&acc)[kTiles][4], uint64_t a, uint64_t b,
                                                            bool keep) {
    constexpr int kFirst = 0;
    PASTUR_PRODUCT_SHARED("256", "0, 1", PASTUR_REGISTERS_128, "128", "129", "130", PASTUR_TILES_16(0),
                          PASTUR_TILES_16(16));
}

/// acc += A^T B (=, where !keep): A 16 rows of 64 columns, B 16 rows of kN columns.
template <int kN, int kFirst = 0, int kTiles>
__device__ __forceinline__ void product_of_columns(float (&acc)[kTiles][4], uint64_t a, uint64_t b,
                                                   bool keep) {
    static_assert(kN == 16 || kN == 32 || kN == 64);
    if constexpr (kN == 16)
        PASTUR_PRODUCT_SHARED("16", "1, 1", PASTUR_REGISTERS_8, "8", "9", "10", PASTUR_TILES_2(0));
    else if constexpr (kN == 32)
        PASTUR_PRODUCT_SHARED("32", "1, 1", PASTUR_REGISTERS_16, "16", "17", "18", PASTUR_TILES_4(0));
    else
        PASTUR_PRODUCT_SHARED("64", "1, 1", PASTUR_REGISTERS_32, "32", "33", "34", PASTUR_TILES_8(0));
}
#undef PASTUR_PRODUCT_SHARED

#define PASTUR_PRODUCT_REGISTERS(n, transposes, registers, a0, a1, a2, a3, b_, keep_, ...)                 \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" keep_                                                \
                 ", 0;\n"                                                                                  \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" registers "}, {%" a0 ", %" a1 \
                 ", %" a2 ", %" a3 "}, %" b_ ", p, 1, 1, " transposes ";\n}"                               \
                 : __VA_ARGS__                                                                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(keep)))

/// acc += A B (=, where !keep) with A a fragment in registers (mma.cuh) and B 16 rows of kN columns.
template <int kN, int kFirst = 0, int kTiles>
__device__ __forceinline__ void product_of_fragment(float (&acc)[kTiles][4], const uint32_t (&a)[4],
                                                    uint64_t b, bool keep) {
    static_assert(kN == 32 || kN == 64);
    if constexpr (kN == 32)
        PASTUR_PRODUCT_REGISTERS("32", "1", PASTUR_REGISTERS_16, "16", "17", "18", "19", "20", "21",
                                 PASTUR_TILES_4(0));
    else
        PASTUR_PRODUCT_REGISTERS("64", "1", PASTUR_REGISTERS_32, "32", "33", "34", "35", "36", "37",
                                 PASTUR_TILES_8(0));
}
/// acc = (keep ? acc : 0) + A B^T with A a fragment in registers and B kN rows of its 16 columns.
template <int kN, int kTiles>
__device__ __forceinline__ void product_of_fragment_and_rows(float (&acc)[kTiles][4], const uint32_t (&a)[4],
                                                             uint64_t b, bool keep) {
    constexpr int kFirst = 0;
    static_assert(kN == 64 || kN == 128);
    if constexpr (kN == 64)
        PASTUR_PRODUCT_REGISTERS("64", "0", PASTUR_REGISTERS_32, "32", "33", "34", "35", "36", "37",
                                 PASTUR_TILES_8(0));
    else
        PASTUR_PRODUCT_REGISTERS("128", "0", PASTUR_REGISTERS_64, "64", "65", "66", "67", "68", "69",
                                 PASTUR_TILES_16(0));
}
#undef PASTUR_PRODUCT_REGISTERS

#undef PASTUR_REGISTERS_128
#undef PASTUR_REGISTERS_64
#undef PASTUR_REGISTERS_32
#undef PASTUR_REGISTERS_16
#undef PASTUR_REGISTERS_8
#undef PASTUR_TILES_16
#undef PASTUR_TILES_8
#undef PASTUR_TILES_4
#undef PASTUR_TILES_2
#undef PASTUR_TILE

#endif  // PASTUR_HOPPER

}  // namespace pastur
