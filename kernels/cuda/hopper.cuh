#pragma once
// PTX instructions of Hopper (sm_90a): TMA copies, which complete on mbarriers, and wgmma, the matrix
// multiply-accumulate of a warpgroup (four warps) whose operands are described in shared memory. Other files
// use them through these functions.
#include <cuda.h>

#include <utility>

#include "kernels/cuda/mbarrier.cuh"

// Device code for other architectures compiles to empty kernels, which are never launched there.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PASTUR_HOPPER 1
#endif
// Marks kernels with clusters of two blocks, which compilers for other architectures may reject.
#if defined(__CUDA_ARCH__) && !defined(PASTUR_HOPPER)
#define PASTUR_PAIRS_OF_BLOCKS
#else
#define PASTUR_PAIRS_OF_BLOCKS __cluster_dims__(2, 1, 1)
#endif

namespace pastur {

/// Calls run.operator()<i>() for i = 0 to kCount - 1.
template <int kCount, typename Run>
__device__ __forceinline__ void unrolled(const Run& run) {
    [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
        (run.template operator()<kIndex>(), ...);
    }
    (std::make_integer_sequence<int, kCount>());
}

#if defined(PASTUR_HOPPER)

/// Arrives once and makes the phase wait for `bytes` of TMA copies as well.
__device__ __forceinline__ void mbarrier_expect(SharedAddress barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/// Waits for the phase of this parity; called by any threads.
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

/// Makes initialised barriers visible to TMA. __syncthreads must follow.
__device__ __forceinline__ void mbarrier_init_done() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Starts the TMA copy of the map's box at (column, token, head, batch). Rows beyond the tensor's end arrive
/// as zeros and count as bytes. Called by one thread.
__device__ __forceinline__ void copy_box(SharedAddress to, const CUtensorMap& map, SharedAddress barrier,
                                         int column, int token, int head, int batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
        "%4, "
        "%5, %6}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(column), "r"(token), "r"(head), "r"(batch)
        : "memory");
}

/// Starts a TMA copy of the box to the same address in both blocks of a cluster of two. It completes on the
/// barrier at the same address in each block.
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

/// Rank of this block in its cluster.
__device__ __forceinline__ int cluster_rank() {
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
/// __syncthreads over all blocks of the cluster.
__device__ __forceinline__ void cluster_sync() {
    asm volatile(
        "barrier.cluster.arrive.release.aligned;\n"
        "barrier.cluster.wait.acquire.aligned;" ::
            : "memory");
}
/// mbarrier_arrive at the barrier at the same address in block `rank` of the cluster.
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

/// Starts the bulk copy of `bytes`. `bytes` and both addresses are multiples of 16. Called by one thread.
__device__ __forceinline__ void copy_bytes(SharedAddress to, const void* from, int bytes,
                                           SharedAddress barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier)
        : "memory");
}

/// Starts the TMA store from shared memory to the map's box at (column, token, head, batch). Parts beyond the
/// tensor's end are not written. Called by one thread, after the writing threads have called shared_written
/// and met at a barrier.
__device__ __forceinline__ void store_box(const CUtensorMap& map, SharedAddress from, int column, int token,
                                          int head, int batch) {
    asm volatile(
        "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
            &map),
        "r"(from), "r"(column), "r"(token), "r"(head), "r"(batch)
        : "memory");
}
/// Ends the group of this thread's stores since the last call.
__device__ __forceinline__ void stores_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Waits until at most kPending of this thread's groups have not finished reading shared memory.
template <int kPending>
__device__ __forceinline__ void stores_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
/// Waits until the writes of all of this thread's groups are complete. Then this thread may signal others to
/// read them.
__device__ __forceinline__ void stores_done() {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
/// Starts to write `bytes`, a multiple of 16, to memory, or to add them there as fp32 numbers. Called under
/// the conditions of store_box.
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
/// Orders this thread's accesses to memory with those of TMA copies that it starts or whose completion it has
/// observed.
__device__ __forceinline__ void memory_and_copies() {
    asm volatile("fence.proxy.async.global;" ::: "memory");
}

/// Stores four 8 x 8 matrices of bf16: the inverse of load_matrices.
__device__ __forceinline__ void store_matrices(SharedAddress row, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(r[0]),
                 "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}
/// Stores 16 bytes at a multiple of 16.
__device__ __forceinline__ void store_shared_16(SharedAddress to, const float (&x)[4]) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]),
                 "f"(x[3])
                 : "memory");
}

/// Makes this thread's writes to shared memory visible to wgmma and TMA that start after the next barrier.
__device__ __forceinline__ void shared_written() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Lowers or raises the number of registers per thread to kRegisters, a multiple of 8. Called by a whole
/// warpgroup.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// wgmma.fence: required before the first wgmma of a batch, so it sees registers written before.
__device__ __forceinline__ void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Ends the group of wgmmas since the last call.
__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kPending groups of wgmmas are unfinished. Groups finish in order.
template <int kPending>
__device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Prevents the compiler from moving reads of the accumulators before the wait.
template <int kTiles>
__device__ __forceinline__ void products_done(float (&acc)[kTiles][4]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(acc[n][i])::"memory");
    }
}

// Accumulators of a 64 x kN wgmma as asm operands: kN / 8 tiles of 4 registers, in the layout of mma.sync,
// from tile kFirst on. Warp w owns rows 16 w to 16 w + 15.
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

// acc = (keep ? acc : 0) + A B, with both operands described in shared memory. transposes "0, 0": A is stored
// as 64 x 16 and B as kN x 16. "1, 1": A is stored as 16 x 64 and B as 16 x kN.
#define PASTUR_PRODUCT_SHARED(n, transposes, registers, a_, b_, keep_, ...)                               \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" keep_                                               \
                 ", 0;\n"                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" registers "}, %" a_ ", %" b_ \
                 ", p, 1, 1, " transposes ";\n}"                                                          \
                 : __VA_ARGS__                                                                            \
                 : "l"(a), "l"(b), "r"(static_cast<int>(keep)))

/// acc = (keep ? acc : 0) + A B^T: A is 64 rows of 16 columns, B kN rows of 16 columns.
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

/// acc = (keep ? acc : 0) + A B: A is 64 rows of 16 columns, B 16 rows of 256 columns.
template <int kTiles>
__device__ __forceinline__ void product_of_rows_and_columns(float (&acc)[kTiles][4], uint64_t a, uint64_t b,
                                                            bool keep) {
    constexpr int kFirst = 0;
    PASTUR_PRODUCT_SHARED("256", "0, 1", PASTUR_REGISTERS_128, "128", "129", "130", PASTUR_TILES_16(0),
                          PASTUR_TILES_16(16));
}

/// acc = (keep ? acc : 0) + A^T B: A is 16 rows of 64 columns, B 16 rows of kN columns.
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

/// acc = (keep ? acc : 0) + A B: A is a fragment in registers (mma.cuh), B 16 rows of kN columns.
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
/// acc = (keep ? acc : 0) + A B^T: A is a fragment in registers, B kN rows of 16 columns.
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
