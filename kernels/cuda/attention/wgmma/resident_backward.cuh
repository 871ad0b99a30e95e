#pragma once
// Shared memory of wgmma/resident_backward.cu, and the warps of its producer warpgroup, which copy rows and
// prepare row statistics.
#include "kernels/cuda/attention/wgmma/resident.cuh"

namespace pastur::attention::wgmma_resident {

inline constexpr int kBlocks = 4;  ///< 64-token blocks of a sequence, queries or keys
static_assert(kBlocks * kGroupRows == kResidentTokens);
inline constexpr int kStatsWarps = 2;
/// Registers per thread of the producer warpgroup and of a consumer, out of 3 * 168 for three warpgroups.
inline constexpr int kHelperRegisters = 40, kConsumerRegisters = 232;

/// Shared memory of a CTA: one head, its dS^T (key blocks x query blocks, the lower triangle), blocks of
/// `out` from which delta is computed, and (log2(e) lse, delta) of its queries. There is no room to align it:
/// dynamic shared memory starts at a multiple of 1024 in a kernel without static shared memory.
template <int kShared>
struct GradientTiles {
    using Widths = HeadWidths<kResidentWidth - kShared, kShared, kResidentWidth>;
    using Q = typename Widths::template Query<kGroupRows>;
    using K = typename Widths::template Key<kGroupRows>;
    using V = typename Widths::template Value<kGroupRows>;
    using Scores = SwizzledRows<kGroupRows, kGroupRows>;
    static constexpr int kBlockBytes = Q::kBytes;
    static_assert(K::kBytes == kBlockBytes && V::kBytes == kBlockBytes && Scores::kBytes == kBlockBytes);
    static constexpr int kOutStages = 2;
    static constexpr int kQAt = 0, kDoutAt = kBlocks, kKAt = 2 * kBlocks, kVAt = 3 * kBlocks,
                         kScoresAt = 4 * kBlocks, kOutAt = kScoresAt + kBlocks * (kBlocks + 1) / 2,
                         kEnd = kOutAt + kOutStages;  ///< in units of kBlockBytes
    static constexpr int kStatsBytes = kGroupRows * static_cast<int>(sizeof(float2));
    static constexpr int kStatsAt = kEnd * kBlockBytes;
    static constexpr int kBarriersAt = kStatsAt + kBlocks * kStatsBytes;
    static constexpr int kSharedBytes = kBarriersAt + (6 * kBlocks + 2 * kOutStages + 2) * 8;
    static_assert(kSharedBytes <= kHopperSharedBytes);
};

struct BackwardKernelParams {
    TensorMaps maps;            ///< boxes of kGroupRows tokens
    CUtensorMap out;            ///< boxes of kGroupRows tokens
    CUtensorMap dq, dk[2], dv;  ///< boxes of a warp's 16 tokens
    BackwardParams<bf16> attention;
    int run;  ///< neighbouring heads that one sum of dk_shared covers
};

#if defined(PASTUR_HOPPER)

/// Addresses of a CTA's shared memory. Barriers with one phase per head: for each query block, q and dout
/// have arrived, are free, its stats are written, its dS^T is complete; for each key block, k and v have
/// arrived, v's place is free; all of k is free; all of dS^T is free. The stages of `out` have a phase each
/// time they are filled.
template <typename Tiles>
struct GradientShared {
    SharedAddress base = shared_base();
    Barriers queries_full{base + Tiles::kBarriersAt}, queries_empty{queries_full[kBlocks]},
        stats_full{queries_empty[kBlocks]}, scores_full{stats_full[kBlocks]}, keys_full{scores_full[kBlocks]},
        v_empty{keys_full[kBlocks]}, out_full{v_empty[kBlocks]}, out_empty{out_full[Tiles::kOutStages]};
    SharedAddress k_empty = out_empty[Tiles::kOutStages], scores_empty = k_empty + 8;

    __device__ SharedAddress block(int index) const { return base + index * Tiles::kBlockBytes; }
    __device__ SharedAddress q(int i) const { return block(Tiles::kQAt + i); }
    __device__ SharedAddress dout(int i) const { return block(Tiles::kDoutAt + i); }
    __device__ SharedAddress k(int j) const { return block(Tiles::kKAt + j); }
    __device__ SharedAddress v(int j) const { return block(Tiles::kVAt + j); }
    /// dS^T of keys j and queries i >= j. Blocks of the same queries are neighbours.
    __device__ SharedAddress scores(int i, int j) const {
        return block(Tiles::kScoresAt + i * (i + 1) / 2 + j);
    }
    __device__ SharedAddress out(int stage) const { return block(Tiles::kOutAt + stage); }
    __device__ SharedAddress stats(int i) const { return base + Tiles::kStatsAt + i * Tiles::kStatsBytes; }

    /// Initialises the barriers; one thread.
    __device__ void start() const {
        for (int i = 0; i < kBlocks; ++i) {
            mbarrier_init(queries_full[i], 1);
            mbarrier_init(queries_empty[i], (i + 1) * kWarpgroup);
            mbarrier_init(stats_full[i], kStatsWarps * 32);
            mbarrier_init(scores_full[i], (i + 1) * kWarpgroup);
            mbarrier_init(keys_full[i], 2);
            mbarrier_init(v_empty[i], 4);
        }
        for (int stage = 0; stage < Tiles::kOutStages; ++stage) {
            mbarrier_init(out_full[stage], 1);
            mbarrier_init(out_empty[stage], kStatsWarps * 32);
        }
        mbarrier_init(k_empty, kConsumerThreads);
        mbarrier_init(scores_empty, kConsumers * 4);
        mbarrier_init_done();
    }
};

/// Copies the rows of every head by TMA, in the order in which those of the previous head become free; one
/// thread.
template <typename Tiles>
struct GradientProducer {
    const BackwardKernelParams& p;
    const GradientShared<Tiles>& shared;
    int batch = 0, head = 0, parity = 0;
    Ring<Tiles::kOutStages> ring = {};

    __device__ __forceinline__ void queries(int i) {
        const SharedAddress full = shared.queries_full[i], out_full = shared.out_full[ring.stage];
        const int token = i * kGroupRows;
        mbarrier_sleep(shared.queries_empty[i], parity ^ 1);
        mbarrier_expect(full, 2 * Tiles::kBlockBytes);
        copy_rows<typename Tiles::V>(shared.dout(i), p.maps.dout, full, token, head, 0, batch);
        copy_rows<typename Tiles::Q>(shared.q(i), p.maps.q, full, token, head, head, batch);
        mbarrier_sleep(shared.out_empty[ring.stage], ring.parity ^ 1);
        mbarrier_expect(out_full, Tiles::kBlockBytes);
        copy_box(shared.out(ring.stage), p.out, out_full, 0, token, head, batch);
        ring.advance();
    }
    __device__ __forceinline__ void values(int j) const {
        mbarrier_sleep(shared.v_empty[j], parity ^ 1);
        mbarrier_expect(shared.keys_full[j], Tiles::kBlockBytes);
        copy_rows<typename Tiles::V>(shared.v(j), p.maps.v, shared.keys_full[j], j * kGroupRows, head, 0,
                                     batch);
    }
    __device__ __forceinline__ void keys(int j) const {
        mbarrier_expect(shared.keys_full[j], Tiles::kBlockBytes);
        copy_rows<typename Tiles::K>(shared.k(j), p.maps.k, shared.keys_full[j], j * kGroupRows, head, 0,
                                     batch);
    }
    __device__ void run() {
        for (HeadWalk walk(p.attention.sizes, p.run); !walk.done(); walk.advance(), parity ^= 1) {
            batch = walk.batch(), head = walk.head();
            values(3), values(2), queries(3), queries(2), queries(1), queries(0);
            mbarrier_sleep(shared.k_empty, parity ^ 1);
            keys(3), keys(2), keys(0), keys(1);
            values(0), values(1);
        }
    }
};

/// A warp that computes half of each block's (log2(e) lse, delta = rowsum(dout out)), one row per lane:
/// (infinity, 0) past the last token, so P is 0 there.
template <typename Tiles>
struct StatsWarp {
    const BackwardKernelParams& p;
    const GradientShared<Tiles>& shared;
    int warp, lane;
    Ring<Tiles::kOutStages> ring = {};

    __device__ __forceinline__ void prepare(const HeadWalk& walk, int block, int parity) {
        using Pack = Packed<bf16, 8>;
        const int tokens = p.attention.sizes.tokens, row = warp * 32 + lane;
        const int token = block * kGroupRows + row;
        float2 stats{INFINITY, 0};
        if (token < tokens)
            stats.x = p.attention.lse[static_cast<int64_t>(walk.index) * tokens + token] * kLog2E;
        mbarrier_sleep(shared.queries_full[block], parity);
        mbarrier_sleep(shared.out_full[ring.stage], ring.parity);
        const std::byte* const dout = shared_pointer(shared.dout(block) + row * 128);
        const std::byte* const out = shared_pointer(shared.out(ring.stage) + row * 128);
#pragma unroll 2
        for (int unit = 0; unit < 8; ++unit) {
            const int at = swizzled<128>(row, unit) * 16;
            const auto x = Pack::load(reinterpret_cast<const bf16*>(dout + at));
            const auto y = Pack::load(reinterpret_cast<const bf16*>(out + at));
#pragma unroll
            for (int i = 0; i < 8; ++i) stats.y += x[i] * y[i];
        }
        *reinterpret_cast<float2*>(shared_pointer(shared.stats(block) + row * sizeof(float2))) = stats;
        mbarrier_arrive(shared.stats_full[block]);
        release(shared.out_empty[ring.stage]);
        ring.advance();
    }
    __device__ void run() {
        int parity = 0;
        for (HeadWalk walk(p.attention.sizes, p.run); !walk.done(); walk.advance(), parity ^= 1)
            for (int block = kBlocks - 1; block >= 0; --block) prepare(walk, block, parity);
    }
};

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention::wgmma_resident
