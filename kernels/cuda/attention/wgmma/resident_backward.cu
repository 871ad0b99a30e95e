// Causal attention backward for 193 to 256 tokens on Hopper: wgmma over a whole (sequence, head) that TMA
// copies to shared memory, one pass over everything as in mma/resident_backward.cu.
//
// Two consumer warpgroups. Of the 64-token blocks, the first has keys 3 and 0, the second keys 2 and 1: five
// pairs of blocks each. A warpgroup walks the queries of its keys from the last down: P^T and dS^T stay in
// registers as operands of dv += P^T dout and dk += dS^T q, and dS^T also goes to shared memory. Then the
// first warpgroup sums dq of queries 3 and 0, the second of 2 and 1, over all keys in order. Blocks that are
// free are filled for the next head at once; only k and dS^T are needed to the end.
#include "kernels/cuda/attention/wgmma/resident_backward.cuh"

#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/attention/rotation.cuh"
#include "kernels/cuda/attention/score_gradients.cuh"
#include "kernels/cuda/launch.cuh"

namespace pastur::attention::wgmma_resident {
namespace {

#if defined(PASTUR_HOPPER)

/// One thread of a consumer warpgroup.
template <int kShared, bool kRotate, bool kRotateKeys, Mask kMask>
struct GradientConsumer {
    using Tiles = GradientTiles<kShared>;
    static constexpr bool kSharedKey = kShared > 0;
    static constexpr int kTiles = kGroupRows / 8, kSteps = kGroupRows / 16;
    using Accumulators = float[kTiles][4];

    const BackwardKernelParams& p;
    const GradientShared<Tiles>& shared;
    int group, warp, lane;
    int parity = 0;
    bool first_head = true;
    /// Tiles of a key's own columns and of its shared ones; offset of the shared ones in a block of dk.
    static constexpr int kOwnTiles = (kResidentWidth - kShared) / 8, kSharedTiles = kShared / 8;
    static constexpr int kSharedAt = kGroupRows * kOwnTiles * 16;
    /// Members rather than variables of key_block: as variables, ptxas finds no registers for half of them
    /// where keys have a shared part, and serialises the wgmmas (C7511).
    Accumulators s, dp, dv;
    float dk[kOwnTiles][4];
    /// dk_shared of the run so far, for both key blocks.
    float sums[2][kSharedKey ? kSharedTiles : 1][4];

    using Angles = RowAngles<kSharedKey ? 2 : 4>;

    /// Loads the angles of the warp's tokens of a block; their addresses are computed here, not earlier.
    __device__ __forceinline__ void request(Angles& angles, int block) const {
        angles.request(p.attention.rope_table, computed_here(block * kGroupRows + warp * 16),
                       p.attention.sizes.tokens, computed_here(lane));
    }
    /// The group's first or second block, of keys or queries.
    __device__ __forceinline__ int block_of(int second) const { return second ? group : kBlocks - 1 - group; }

    /// Queues S^T of keys j and queries i.
    __device__ __forceinline__ void scores(int i, int j) {
        mbarrier_sleep(shared.queries_full[i], parity);
        products_begin();
        product_by_rows<typename Tiles::K, typename Tiles::Q, kGroupRows>(s, shared.k(j), 0, shared.q(i));
        products_commit();
    }
    /// Queues dP^T of keys j and queries i.
    __device__ __forceinline__ void score_gradients(int i, int j) {
        products_begin();
        product_by_rows<typename Tiles::V, typename Tiles::V, kGroupRows>(dp, shared.v(j), 0, shared.dout(i));
        products_commit();
    }

    /// Queues dk += dS^T q of queries i. `first`: first of the head; `first_of_run`: first of the shared
    /// columns' sums.
    template <int kSecond>
    __device__ __forceinline__ void key_product(const uint32_t (&ds)[kSteps][4], int i, bool first,
                                                bool first_of_run) {
        const SharedAddress q = shared.q(i);
        unrolled<kSteps>([&]<int kStep>() __attribute__((always_inline)) {
            const uint64_t rows = Tiles::Q::template by_columns<0, kStep * 16>(q);
            product_of_fragment<kOwnTiles * 8>(dk, ds[kStep], rows, kStep > 0 || !first);
            if constexpr (kSharedKey)
                product_of_fragment<kShared>(sums[kSecond], ds[kStep],
                                             rows + (kResidentWidth - kShared) * 2 / 16,
                                             kStep > 0 || !first_of_run);
        });
        products_commit();
    }

    /// Stores a warp's accumulators, times `factor`, to its 16 rows of a block with as many columns.
    template <int kWhole>
    __device__ __forceinline__ void put(SharedAddress block, const float (&acc)[kWhole][4],
                                        float factor) const {
        put_part<0, kWhole>(block, acc, factor, warp * 16, lane);
    }
    /// Starts the copy of what the warp put there to memory.
    __device__ __forceinline__ void send(const CUtensorMap& map, SharedAddress block, int row_bytes,
                                         int token, int head, int batch) const {
        if (lane == 0) store_box(map, block + warp * 16 * row_bytes, 0, token, head, batch);
    }
    /// Arrives at `barriers` once the warp's copies to memory have read shared memory.
    template <typename... Places>
    __device__ __forceinline__ void sent(Places... barriers) const {
        if (lane != 0) return;
        stores_read<0>();
        (mbarrier_arrive(barriers), ...);
    }

    /// Stores dk of a key block to a free block.
    template <int kSecond>
    __device__ __forceinline__ void put_keys(SharedAddress block, const HeadWalk& walk,
                                             const Angles& angles) {
        if constexpr (kRotateKeys && !kSharedKey) angles.rotate_back(dk);
        put(block, dk, p.attention.scale);
        if constexpr (kSharedKey) {
            if (!walk.ends_run()) return;
            if constexpr (kRotateKeys) angles.rotate_back(sums[kSecond]);
            put(block + kSharedAt, sums[kSecond], p.attention.scale);
        }
    }
    __device__ __forceinline__ void send_keys(SharedAddress block, const HeadWalk& walk, int j) const {
        const int token = j * kGroupRows + warp * 16;
        send(p.dk[0], block, kOwnTiles * 16, token, walk.head(), walk.batch());
        if (kSharedKey && walk.ends_run())
            send(p.dk[1], block + kSharedAt, kSharedTiles * 16, token, walk.head() / p.run, walk.batch());
    }
    __device__ __forceinline__ void send_values(const HeadWalk& walk, int j) const {
        send(p.dv, shared.v(j), 128, j * kGroupRows + warp * 16, walk.head(), walk.batch());
    }
    /// Makes what all lanes put visible to TMA.
    __device__ __forceinline__ void all_put() const {
        shared_written();
        __syncwarp();
    }

    /// dk and dv of a key block.
    template <int kSecond>
    __device__ __forceinline__ void key_block(const HeadWalk& walk) {
        const int j = block_of(kSecond), row = j * kGroupRows + warp * 16;
        const float c = p.attention.scale * kLog2E;
        const KeyPair<kMask> pair(row + lane / 4, p.attention.sizes, p.attention.documents, walk.batch());
        uint32_t prob[kSteps][4], ds[kSteps][4];
        mbarrier_sleep(shared.keys_full[j], parity);
        scores(kBlocks - 1, j);
        // Release places whose copies to memory started before.
        if constexpr (kSecond)
            sent(shared.v_empty[block_of(0)]);
        else if (!first_head)
            sent(shared.scores_empty, shared.v_empty[block_of(1)]);
        for (int i = kBlocks - 1;; --i) {
            const SharedAddress stats = shared.stats(i) + lane % 4 * 16;
            mbarrier_sleep(shared.stats_full[i], parity);
            products_wait<0>();
            products_done(s);
            if (i < kBlocks - 1) release(shared.queries_empty[i + 1]);
            score_gradients(i, j);
            probabilities_of_keys(s, stats, c, i == j, i * kGroupRows + lane % 4 * 2 - (row + lane / 4),
                                  pair);
            to_fragments(prob, s);
            const bool first = i == kBlocks - 1;
            products_begin();
            product_by_columns<typename Tiles::V, kSteps>(dv, prob, shared.dout(i), !first);
            products_commit();
            products_wait<1>();
            products_done(dp);
            score_gradients_by_key(dp, s, stats);
            to_fragments(ds, dp);
            products_begin();
            key_product<kSecond>(ds, i, first, first && walk.starts_run());
            if (kSecond == 0 && first) mbarrier_sleep(shared.scores_empty, parity ^ 1);
            store_scores(shared.scores(i, j), ds, warp * 16, lane);
            shared_written();
            mbarrier_arrive(shared.scores_full[i]);
            if (i == j) break;
            products_wait<0>();  // S queued behind the GEMM of dk would not find registers
            products_done(dk);
            products_done(dv);
            products_done(sums[kSecond]);
            scores(i - 1, j);
        }
        Angles angles;
        if (kSecond == 0 && kRotateKeys && (!kSharedKey || walk.ends_run())) request(angles, j);
        products_wait<0>();
        products_done(dk);
        products_done(dv);
        products_done(sums[kSecond]);
        release(shared.queries_empty[j]);
        barrier_wait(1 + group, kWarpgroup);  // the wgmmas of all four warps have read v
        put(shared.v(j), dv, 1);
        // dk of the first block takes the place of the dS^T that this group fills last; dk of the second
        // waits for one.
        const SharedAddress place = shared.scores(group, group);
        if constexpr (kSecond == 0) put_keys<0>(place, walk, angles);
        all_put();
        send_values(walk, j);
        if constexpr (kSecond == 0) send_keys(place, walk, j);
        if (lane == 0) stores_commit();
    }

    /// Queues dq of queries kBlock.
    template <int kBlock>
    __device__ __forceinline__ void query_products(Accumulators& dq) const {
        mbarrier_sleep(shared.scores_full[kBlock], parity);
        products_begin();
        unrolled<(kBlock + 1) * kSteps>([&]<int kIndex>() __attribute__((always_inline)) {
            constexpr int kKeys = kIndex / kSteps, kRow = kIndex % kSteps * 16;
            const uint64_t a = Tiles::Scores::template by_columns<0, kRow>(shared.scores(kBlock, kKeys));
            unrolled<Tiles::K::kParts>([&]<int kPart>() __attribute__((always_inline)) {
                constexpr auto kColumns = Tiles::K::part(kPart);
                product_of_columns<kColumns.width, kColumns.column / 8>(
                    dq, a, Tiles::K::template by_columns<kPart, kRow>(shared.k(kKeys)), kIndex > 0);
            });
        });
        products_commit();
    }
    /// dq of two query blocks leaves through the place of dS^T. dk of the second key block, which has the
    /// same tokens as the second query block, leaves through the place of v, after dv.
    template <int kFirst, int kSecond>
    __device__ __forceinline__ void query_blocks(const HeadWalk& walk) {
        Accumulators dq, second_dq;
        query_products<kFirst>(dq);
        query_products<kSecond>(second_dq);
        Angles angles, second_angles;
        if constexpr (kRotate) request(angles, kFirst);
        products_wait<0>();
        products_done(dq);
        products_done(second_dq);
        release(shared.k_empty);
        if constexpr (kRotate) request(second_angles, kSecond);
        if (lane == 0) stores_read<0>();  // of dv
        barrier_wait(1 + group, kWarpgroup);
        const SharedAddress first_place = shared.scores(kFirst, 0), second_place = shared.scores(kSecond, 0);
        if constexpr (kRotate) angles.rotate_back(dq);
        put(first_place, dq, p.attention.scale);
        put_keys<1>(shared.v(kSecond), walk, second_angles);
        if constexpr (kRotate) second_angles.rotate_back(second_dq);
        put(second_place, second_dq, p.attention.scale);
        all_put();
        send_keys(shared.v(kSecond), walk, kSecond);
        send(p.dq, first_place, 128, kFirst * kGroupRows + warp * 16, walk.head(), walk.batch());
        send(p.dq, second_place, 128, kSecond * kGroupRows + warp * 16, walk.head(), walk.batch());
        if (lane == 0) stores_commit();
    }

    __device__ void run() {
        for (HeadWalk walk(p.attention.sizes, p.run); !walk.done(); walk.advance(), parity ^= 1) {
            key_block<0>(walk);
            first_head = false;
            key_block<1>(walk);
            if (group == 0)
                query_blocks<3, 0>(walk);
            else
                query_blocks<2, 1>(walk);
        }
        if (lane == 0) stores_done();
    }
};

#endif  // PASTUR_HOPPER

/// dq =, dk =, dv =, and dk_shared = the sum over a run of heads, where keys have a shared part.
template <int kShared, bool kRotate, bool kRotateKeys, Mask kMask>
__global__ void __launch_bounds__(kThreads, 1)
    attention_wgmma_resident_backward_kernel(const __grid_constant__ BackwardKernelParams p) {
#if defined(PASTUR_HOPPER)
    using Tiles = GradientTiles<kShared>;
    const GradientShared<Tiles> shared;
    if (threadIdx.x == 0) {
        if (shared.base != shared_address(dynamic_shared())) __trap();
        shared.start();
    }
    __syncthreads();
    const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / 32, 0),
              lane = static_cast<int>(threadIdx.x) % 32;
    if (warp < 4) {
        give_registers<kHelperRegisters>();
        if (warp == 0) {
            GradientProducer<Tiles> producer{p, shared};
            if (lane == 0) producer.run();
        } else if (warp <= kStatsWarps) {
            StatsWarp<Tiles> stats{p, shared, warp - 1, lane};
            stats.run();
        }
    } else {
        take_registers<kConsumerRegisters>();
        GradientConsumer<kShared, kRotate, kRotateKeys, kMask> consumer{p, shared, warp / 4 - 1, warp % 4,
                                                                        lane};
        consumer.run();
    }
#endif
}

template <int kShared, Mask kMask, bool kRotate, bool kRotateKeys = kRotate>
void launch_gradients(CudaContext& ctx, const BackwardParams<bf16>& params, int run) {
    using Tiles = GradientTiles<kShared>;
    const Sizes& sizes = params.sizes;
    BackwardKernelParams p{};
    p.attention = params;
    p.run = run;
    query_maps<typename Tiles::Widths>(p.maps.q, params.q, sizes, kGroupRows);
    p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, kGroupRows);
    key_maps(p.maps.k, params.k, params.k_shared, sizes, kGroupRows);
    p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, kGroupRows);
    p.out = value_map(params.out, sizes, sizes.heads, kGroupRows);
    p.dq = gradient_map(params.dq, kResidentWidth, sizes, sizes.heads);
    p.dk[0] = gradient_map(params.dk, sizes.content, sizes, sizes.kv_heads);
    p.dk[1] = kShared > 0 ? gradient_map(params.dk_shared, kShared, sizes, sizes.heads / run) : p.dk[0];
    p.dv = gradient_map(params.dv, kResidentWidth, sizes, sizes.kv_heads);
    const int64_t runs = static_cast<int64_t>(sizes.batch) * (sizes.heads / run);
    const auto blocks = std::min<int64_t>(runs, ctx.handles().properties.multiProcessorCount);
    launch(ctx, static_cast<unsigned>(blocks), kThreads, Tiles::kSharedBytes,
           attention_wgmma_resident_backward_kernel<kShared, kRotate, kRotateKeys, kMask>, p);
}

}  // namespace

bool takes_backward(CudaContext& ctx, const Call& call) {
    return call.bf16_vectors() && has_tensor_copies(ctx) && resident_widths(call.sizes) &&
           call.sizes.group() == 1 && call.sizes.tokens > (kBlocks - 1) * kGroupRows;
}

void backward(CudaContext& ctx, const BackwardParams<bf16>& params) {
    const int run = params.sizes.heads / mma_resident::scratch(ctx, params.sizes).key_parts;
    constexpr int kHalf = kResidentWidth / 2;
    const bool rotates = params.rope_table != nullptr;
    visit_mask(params.sizes, params.documents, [&]<Mask kMask>() {
        if (params.sizes.rotary > 0)
            return rotates ? launch_gradients<kHalf, kMask, true>(ctx, params, run)
                           : launch_gradients<kHalf, kMask, false>(ctx, params, run);
        if constexpr (kMask != Mask::kStride) {  // resident_widths
            if (!rotates) return launch_gradients<0, kMask, false>(ctx, params, run);
            params.rotated_keys ? launch_gradients<0, kMask, true>(ctx, params, run)
                                : launch_gradients<0, kMask, true, false>(ctx, params, run);
        }
    });
}

}  // namespace pastur::attention::wgmma_resident
