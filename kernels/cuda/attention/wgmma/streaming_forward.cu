// Causal attention forward on Hopper: a producer thread fills a ring of key and value tiles by TMA, and
// consumer warpgroups multiply by wgmma. CTAs are persistent: while a tile's last GEMMs and its output are
// under way, the producer already fetches the next tile's rows.
#include "kernels/cuda/attention/wgmma/streaming_forward.cuh"

#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/max_logit.cuh"
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/attention/softmax.cuh"
#include "kernels/cuda/attention/wgmma/streaming.cuh"

namespace pastur::attention::wgmma_streaming {
namespace {

#if defined(PASTUR_HOPPER)

template <typename Tiles, Mask kMask>
__device__ __forceinline__ void produce(const ForwardKernelParams& p, const ForwardShared<Tiles>& shared) {
    Ring<Tiles::kStages> ring;
    int q_parity = 1, index = blockIdx.x;
    for (; index < p.order.total(); q_parity ^= 1) {
        const int next = p.counter.take();  // needed only at the tile's end
        const ForwardTile<Tiles, kMask> tile(p.order, p.attention, p.end, index);
        const int kv_head = tile.head / p.attention.sizes.group();
        for (int step = tile.begin; step < tile.steps; ++step, ring.advance()) {
            mbarrier_sleep(shared.k_empty[ring.stage], ring.parity ^ 1);
            mbarrier_expect(shared.k_full[ring.stage], Tiles::K::kBytes);
            copy_rows<typename Tiles::K>(shared.k(ring.stage), p.maps.k, shared.k_full[ring.stage],
                                         step * Tiles::kKeys, kv_head, 0, tile.batch);
            if (step == tile.begin) {
                mbarrier_sleep(shared.q_empty[0], q_parity);
                shared.index() = index;
                mbarrier_expect(shared.q_full[0], Tiles::Q::kBytes);
                copy_rows<typename Tiles::Q>(shared.q(), p.maps.q, shared.q_full[0], tile.first, tile.head,
                                             tile.head, tile.batch);
            }
            mbarrier_sleep(shared.v_empty[ring.stage], ring.parity ^ 1);
            mbarrier_expect(shared.v_full[ring.stage], Tiles::V::kBytes);
            copy_rows<typename Tiles::V>(shared.v(ring.stage), p.maps.v, shared.v_full[ring.stage],
                                         step * Tiles::kKeys, kv_head, 0, tile.batch);
        }
        index = next;
    }
    mbarrier_sleep(shared.q_empty[0], q_parity);
    shared.index() = index;
    mbarrier_arrive(shared.q_full[0]);
    p.counter.leave();
}

/// A consumer warpgroup, which owns 64 queries of each tile. Its rings continue from tile to tile.
template <typename Widths, typename Tiles, Mask kMask>
struct ForwardConsumer {
    using Tile = ForwardTile<Tiles, kMask>;
    const ForwardKernelParams& p;
    const ForwardShared<Tiles>& shared;
    int group, warp, lane;  ///< group: which consumer; warp: in the group
    Ring<Tiles::kStages> k_ring{}, v_ring{};
    int q_parity = 0;
    static constexpr int kQuerySteps = Tiles::keeps_queries() ? Widths::kQk / 16 : 1;
    uint32_t queries[kQuerySteps][4];
    Turns<Tiles::kConsumers> turns{group};

    /// The next tile's index, once its queries have arrived.
    __device__ __forceinline__ int next_index() {
        mbarrier_sleep(shared.q_full[0], q_parity);
        q_parity ^= 1;
        return shared.index();
    }
    __device__ __forceinline__ void scores(float (&s)[Tiles::kKeys / 8][4]) {
        mbarrier_sleep(shared.k_full[k_ring.stage], k_ring.parity);
        products_begin();
        const SharedAddress keys = shared.k(k_ring.stage);
        if constexpr (Tiles::keeps_queries())
            product_by_rows<typename Tiles::K, Tiles::kKeys>(s, queries, keys);
        else
            product_by_rows<typename Tiles::Q, typename Tiles::K, Tiles::kKeys>(s, shared.q(),
                                                                                group * kGroupRows, keys);
        products_commit();
    }
    /// Loads the tile's queries into registers and frees their shared memory.
    __device__ __forceinline__ void keep_queries() {
        load_fragments<typename Tiles::Q>(queries, shared.q(), group * kGroupRows + warp * 16 + lane % 16,
                                          lane);
        release(shared.q_empty[0]);
    }
    __device__ __forceinline__ void scores_done() {
        release(shared.k_empty[k_ring.stage]);
        k_ring.advance();
    }
    /// Queues out += P V over the first kUsed keys of a tile.
    template <int kUsed>
    __device__ __forceinline__ void add_values(float (&out)[Widths::kV / 8][4],
                                               const uint32_t (&prob)[Tiles::kKeys / 16][4], bool keep) {
        mbarrier_sleep(shared.v_full[v_ring.stage], v_ring.parity);
        products_begin();
        product_by_columns<typename Tiles::V, kUsed / 16>(out, prob, shared.v(v_ring.stage), keep);
        products_commit();
    }
    __device__ __forceinline__ void values_done(float (&out)[Widths::kV / 8][4]) {
        products_wait<0>();
        products_done(out);
        next_values();
    }
    __device__ __forceinline__ void next_values() {
        release(shared.v_empty[v_ring.stage]);
        v_ring.advance();
    }

    __device__ __forceinline__ void tile(const Tile& tile) {
        const int tokens = p.attention.sizes.tokens, row = tile.first + group * kGroupRows;
        const int steps = row >= 0 ? Tile::steps_of(row + kGroupRows, tokens) : 0;
        if (steps > 0) {
            const int begin = Tile::begin_of(p.attention, tile.batch, row);
            skip(begin - tile.begin);
            rows(tile, row + warp * 16, begin, steps);
        } else {
            release(shared.q_empty[0]);
            skip(tile.steps - tile.begin);
        }
    }
    /// Passes key tiles that only other warpgroups see.
    __device__ __forceinline__ void skip(int steps) {
        for (; steps > 0; --steps) {
            turns.sit_out();
            mbarrier_sleep(shared.k_full[k_ring.stage], k_ring.parity);
            scores_done();
            mbarrier_sleep(shared.v_full[v_ring.stage], v_ring.parity);
            next_values();
        }
    }

    /// Key tiles [begin, steps), all of the warpgroup's queries; `row`: the warp's first query. S of one key tile is computed
    /// while the probabilities of the tile before are multiplied by its values.
    __device__ __forceinline__ void rows(const Tile& tile, int row, int begin, int steps) {
        constexpr int kAll = Tiles::kKeys, kHalf = kAll / 2;
        const float c = p.attention.scale * kLog2E;
        float s[kAll / 8][4], out[Widths::kV / 8][4], rescale[2];
        uint32_t prob[kAll / 16][4];
        OnlineSoftmax softmax;
        const QueryDocuments<kMask> documents(p.attention.documents, p.attention.sizes, tile.batch, row,
                                              lane);
        const auto soften = [&]<int kUsed>(int step) {
            const int key = step * kAll;
            auto& used = reinterpret_cast<float(&)[kUsed / 8][4]>(s);
            if constexpr (kMask == Mask::kDocuments) {
                const int stride = p.attention.sizes.stride;
                if (documents.hides(key, stride) || key + kUsed > row + 1) {
                    const ChunkEnds ends(stride);
                    unrolled<kUsed / 64>([&]<int kBlock>() {
                        const int first = key + kBlock * 64 + lane % 4 * 2;
                        mask_other_documents(reinterpret_cast<float(&)[8][4]>(s[kBlock * 8]), row + lane / 4,
                                             first, ends.from(first), documents.first_key);
                    });
                }
            } else if constexpr (kMask == Mask::kStride) {
                const ChunkEnds ends(p.attention.sizes.stride);
                unrolled<kUsed / 64>([&]<int kBlock>() {
                    const int first = key + kBlock * 64 + lane % 4 * 2;
                    mask_hidden_keys(reinterpret_cast<float(&)[8][4]>(s[kBlock * 8]), row + lane / 4, first,
                                     ends.from(first));
                });
            } else if (key + kUsed > row + 1) {
                mask_later_keys(used, row + lane / 4, key + lane % 4 * 2);
            }
            softmax.template step<kMask != Mask::kCausal>(used, rescale, c);
        };
        const auto round = [&]<int kUsed>() {
            to_fragments(reinterpret_cast<uint32_t(&)[kUsed / 16][4]>(prob),
                         reinterpret_cast<float(&)[kUsed / 8][4]>(s));
        };
        if constexpr (Tiles::keeps_queries()) keep_queries();
        turns.wait();
        scores(s);
        turns.pass();
        products_wait<0>();
        products_done(s);
        scores_done();
        if (!Tiles::keeps_queries() && steps - begin == 1) release(shared.q_empty[0]);
        soften.template operator()<kAll>(begin);
        round.template operator()<kAll>();
        const auto follow = [&]<int kUsed>(int step) {
            turns.wait();
            scores(s);
            add_values<kAll>(out, prob, step > begin + 1);
            turns.pass();
            products_wait<1>();
            products_done(s);
            scores_done();
            if (!Tiles::keeps_queries() && step + 1 == steps) release(shared.q_empty[0]);
            soften.template operator()<kUsed>(step);
            values_done(out);
#pragma unroll
            for (int n = 0; n < Widths::kV / 8; ++n) {
                out[n][0] *= rescale[0], out[n][1] *= rescale[0];
                out[n][2] *= rescale[1], out[n][3] *= rescale[1];
            }
            round.template operator()<kUsed>();
        };
        // Every other warpgroup's queries see only half of the last key tile. (Computing only half of its
        // scores would need narrower wgmmas into the same registers; ptxas then serialises all wgmmas, as it
        // does with one wait after both branches instead of one in each.)
        const bool half = steps - begin > 1 && (tile.first + group * kGroupRows) % kAll == 0;
        for (int step = begin + 1; step < steps - half; ++step) follow.template operator()<kAll>(step);
        if (half) {
            follow.template operator()<kHalf>(steps - 1);
            add_values<kHalf>(out, prob, true);
            values_done(out);
        } else {
            add_values<kAll>(out, prob, steps - begin > 1);
            values_done(out);
        }
        softmax.finish();
        store_lse(tile, row, softmax);
        raise_max_logit(p.attention.max_logit, tile.head, softmax.maximum, p.attention.scale, row,
                        p.attention.sizes.tokens);
        skip(tile.steps - steps);  // before the store, so nothing waits for it
        store_out(tile, row, out, softmax);
    }

    __device__ __forceinline__ void store_out(const Tile& tile, int row,
                                              const float (&out)[Widths::kV / 8][4],
                                              const OnlineSoftmax& softmax) {
        const Sizes& sizes = p.attention.sizes;
        store_rows<Tiles::kPitch>(token_rows(p.attention.out, tile.batch, tile.head, sizes.value), out,
                                  1 / softmax.sum[0], 1 / softmax.sum[1],
                                  shared.base + Tiles::kOutAt + (group * 4 + warp) * 16 * Tiles::kPitch, row,
                                  sizes.tokens, lane);
    }
    __device__ __forceinline__ void store_lse(const Tile& tile, int row, const OnlineSoftmax& softmax) {
        const Sizes& sizes = p.attention.sizes;
        const int token = row + lane / 4 + lane % 4 * 8;  // lanes 0 and 1 of each quad write
        if (lane % 4 >= 2 || token >= sizes.tokens) return;
        const float maximum = lane % 4 == 0 ? softmax.maximum[0] : softmax.maximum[1];
        const float sum = lane % 4 == 0 ? softmax.sum[0] : softmax.sum[1];
        const int64_t pair = static_cast<int64_t>(tile.batch) * sizes.heads + tile.head;
        p.attention.lse[pair * sizes.tokens + token] = maximum * p.attention.scale + logf(sum);
    }
};

#endif  // PASTUR_HOPPER

/// out = softmax(scale q k^T, causal) v and lse = log sum exp, by the online softmax of Dao et al.
/// (2205.14135).
template <int kContent, int kShared, int kValue, int kConsumers, Mask kMask>
__global__ void __launch_bounds__((kConsumers + 1) * kWarpgroup, 1)
    attention_wgmma_streaming_forward_kernel(const __grid_constant__ ForwardKernelParams p) {
#if defined(PASTUR_HOPPER)
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = ForwardTiles<Widths, kConsumers>;
    const ForwardShared<Tiles> shared;
    if (threadIdx.x == 0) {
        mbarrier_init(shared.q_full[0], 1);
        mbarrier_init(shared.q_empty[0], kConsumers * kWarpgroup);
        for (int stage = 0; stage < Tiles::kStages; ++stage) {
            mbarrier_init(shared.k_full[stage], 1);
            mbarrier_init(shared.v_full[stage], 1);
            mbarrier_init(shared.k_empty[stage], kConsumers * kWarpgroup);
            mbarrier_init(shared.v_empty[stage], kConsumers * kWarpgroup);
        }
        mbarrier_init_done();
    }
    __syncthreads();
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (warpgroup == 0) {
        give_registers<Registers<kConsumers>::kProducer>();
        if (threadIdx.x == 0) produce<Tiles, kMask>(p, shared);
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        ForwardConsumer<Widths, Tiles, kMask> consumer{p, shared, warpgroup - 1,
                                                       static_cast<int>(threadIdx.x) / 32 % 4,
                                                       static_cast<int>(threadIdx.x) % 32};
        consumer.turns.start();
        for (int index; (index = consumer.next_index()) < p.order.total();)
            consumer.tile(ForwardTile<Tiles, kMask>(p.order, p.attention, p.end, index));
    }
#endif
}

template <int kContent, int kShared, int kValue, int kConsumers, Mask kMask>
void launch_forward(CudaContext& ctx, const ForwardParams<bf16>& params) {
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = ForwardTiles<Widths, kConsumers>;
    ForwardKernelParams p{};
    p.attention = params;
    query_maps<Widths>(p.maps.q, params.q, params.sizes, Tiles::kRows);
    key_maps(p.maps.k, params.k, params.k_shared, params.sizes, Tiles::kKeys);
    p.maps.v[0] = value_map(params.v, params.sizes, params.sizes.kv_heads, Tiles::kKeys);
    p.order = tile_order(params.sizes, params.sizes.heads, Tiles::kRows);
    p.end = padded_tokens(params.sizes.tokens);
    p.counter.numbers = reinterpret_cast<int*>(ctx.handles().tile_counter.data());
    launch(ctx, persistent_blocks(ctx, p.order), Tiles::kThreads, Tiles::kSharedBytes,
           attention_wgmma_streaming_forward_kernel<kContent, kShared, kValue, kConsumers, kMask>, p);
}

}  // namespace

bool takes(CudaContext& ctx, const Call& call) {
    return call.bf16_vectors() && has_tensor_copies(ctx) &&
           (call.sizes.stride == 1 || takes_stride(call.sizes)) &&
           visit_widths(call.sizes, [&]<int kContent, int kShared, int kValue>() {
               static_assert(kContent % 32 == 0 && kShared % 32 == 0 && kValue % 64 == 0);
           });
}

std::string widths() {
    std::string list;
    any_widths([&]<int kContent, int kShared, int kValue>() {
        list += fmt::format("{}{}{}/{}", list.empty() ? "" : ", ", kContent,
                            kShared > 0 ? fmt::format("+{}", kShared) : "", kValue);
        return false;
    });
    return list;
}

void forward(CudaContext& ctx, const ForwardParams<bf16>& params) {
    visit_widths(params.sizes, [&]<int kContent, int kShared, int kValue>() {
        constexpr int kConsumers = kValue <= 64 ? 3 : 2;
        visit_mask(params.sizes, params.documents, [&]<Mask kMask>() {
            if constexpr (kMask != Mask::kStride || takes_stride(kContent, kShared))
                launch_forward<kContent, kShared, kValue, kConsumers, kMask>(ctx, params);
        });
    });
}

}  // namespace pastur::attention::wgmma_streaming
