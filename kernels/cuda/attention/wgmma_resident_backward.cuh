#pragma once
// Attention backward for sequences of four blocks of 64 tokens on Hopper: what lies in shared memory, and the
// warps beside the multiplying ones, which copy and prepare.
#include "kernels/cuda/attention/resident.cuh"
#include "kernels/cuda/attention/score_gradients.cuh"

namespace pastur::attention::wgmma_resident {

inline constexpr int kBlocks = 4;  ///< of kGroupRows tokens, queries or keys
static_assert(kBlocks * kGroupRows == kResidentTokens);
inline constexpr int kStatsWarps = 2;
/// Of a thread beside the consumers, and of a consumer: of three warpgroups' 3 * 168.
inline constexpr int kHelperRegisters = 40, kConsumerRegisters = 232;

/// Shared memory of a block of threads: one head, its dS^T (blocks of keys x queries, the lower triangle),
/// blocks of `out` on their way to delta, and (log2(e) lse, delta) of its queries. No room is left to align
/// it: dynamic shared memory begins at a multiple of 1024 where a kernel has no other.
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
                         kEnd = kOutAt + kOutStages;  ///< in blocks
    static constexpr int kStatsBytes = kGroupRows * static_cast<int>(sizeof(float2));
    static constexpr int kStatsAt = kEnd * kBlockBytes;
    static constexpr int kBarriersAt = kStatsAt + kBlocks * kStatsBytes;
    static constexpr int kSharedBytes = kBarriersAt + (6 * kBlocks + 2 * kOutStages + 2) * 8;
    static_assert(kSharedBytes <= kHopperSharedBytes);
};

struct BackwardKernelParams {
    TensorMaps maps;            ///< boxes of kGroupRows tokens
    CUtensorMap out;            ///< likewise
    CUtensorMap dq, dk[2], dv;  ///< boxes of a warp's 16 tokens
    BackwardParams<bf16> attention;
    int run;  ///< of heads, one after the other, whose dk_shared is one sum
};

#if defined(PASTUR_HOPPER)

/// Addresses of a block's shared memory. Barriers have a phase a head: of each block of queries, when q and
/// dout have come, are done with, its stats are there, and its dS^T is whole; of each block of keys, when k
/// and v have come, and v's place is free; and when those of k, and of dS^T, are. Those of the stages of
/// `out` have one whenever they are filled.
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
    /// dS^T of keys j and queries i >= j; what queries i share lies side by side.
    __device__ SharedAddress scores(int i, int j) const {
        return block(Tiles::kScoresAt + i * (i + 1) / 2 + j);
    }
    __device__ SharedAddress out(int stage) const { return block(Tiles::kOutAt + stage); }
    __device__ SharedAddress stats(int i) const { return base + Tiles::kStatsAt + i * Tiles::kStatsBytes; }

    /// One thread.
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

/// One thread: has every head's rows copied, in the order in which those of the head before are done with.
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

/// A warp that prepares half of every block's (log2(e) lse, delta = rowsum(dout out)): (infinity, 0) past the
/// last token, so that P is 0 there. A row is one lane's.
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
