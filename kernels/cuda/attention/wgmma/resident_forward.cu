// Causal attention forward for up to 256 tokens on Hopper: wgmma over whole heads that TMA copies to shared
// memory.
#include "kernels/cuda/attention/wgmma/resident_forward.cuh"

#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/max_logit.cuh"
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/launch.cuh"

namespace pastur::attention::wgmma_resident {
namespace {

#if defined(PASTUR_HOPPER)

/// The softmax of two whole rows that a thread shares with three others: s becomes 2^(c (s - maximum)).
/// Dependency chains are short, because little other work hides their latency.
struct RowSoftmax {
    float maximum[2], sum[2];

    template <int kTiles>
    __device__ __forceinline__ void compute(float (&s)[kTiles][4], float c) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float part[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
#pragma unroll
            for (int n = 0; n < kTiles; ++n)
                part[n % 4] = fmaxf(part[n % 4], fmaxf(s[n][2 * half], s[n][2 * half + 1]));
            maximum[half] = fmaxf(fmaxf(part[0], part[1]), fmaxf(part[2], part[3]));
        }
#pragma unroll
        for (int lane = 1; lane <= 2; lane *= 2) {
            maximum[0] = fmaxf(maximum[0], __shfl_xor_sync(kAllLanes, maximum[0], lane));
            maximum[1] = fmaxf(maximum[1], __shfl_xor_sync(kAllLanes, maximum[1], lane));
        }
        const float offset[2] = {c * maximum[0], c * maximum[1]};
        float part[2][2] = {};
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                s[n][i] = exp2_approximate(s[n][i] * c - offset[i / 2]);
                part[i / 2][i % 2] += s[n][i];
            }
        }
        sum[0] = part[0][0] + part[0][1];
        sum[1] = part[1][0] + part[1][1];
    }
    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int lane = 1; lane <= 2; lane *= 2) {
            sum[0] += __shfl_xor_sync(kAllLanes, sum[0], lane);
            sum[1] += __shfl_xor_sync(kAllLanes, sum[1], lane);
        }
    }
};

/// A consumer warpgroup: two tiles of 64 queries of every head, each over all its keys at once, so four
/// threads hold a whole row of scores in registers. Tile b - 1 sees b blocks of 64 keys; kLong + kBrief = 5
/// balances the warpgroups.
template <typename Tiles, Rotated kRotated, Mask kMask, int kLong, int kBrief>
struct ResidentConsumer {
    using Out = float[kResidentWidth / 8][4];
    const ForwardKernelParams& p;
    const HeadShared<Tiles>& shared;
    int group, warp, lane;

    /// Queues S of tile kBlocks - 1, keys in pairs of blocks: wider wgmmas read less shared memory.
    template <int kBlocks>
    __device__ __forceinline__ void scores(float (&s)[kBlocks * 8][4], SharedAddress stage) const {
        using Rows = typename Tiles::Rows;
        unrolled<kResidentWidth / 16>([&]<int kStep>() {
            const uint64_t q = Rows::template by_rows<kStep * 16>(stage, (kBlocks - 1) * kGroupRows);
            unrolled<(kBlocks + 1) / 2>([&]<int kPair>() {
                constexpr int kCols = 2 * kPair + 1 < kBlocks ? 128 : 64;
                product_of_rows<kCols, kPair * 16>(
                    s, q, Rows::template by_rows<kStep * 16>(stage + Tiles::kKeyAt, kPair * 128), kStep > 0);
            });
        });
        products_commit();
    }

    /// The documents of the warp's queries of tile kBlocks - 1.
    template <int kBlocks>
    __device__ __forceinline__ QueryDocuments<kMask> documents(const HeadWalk& walk) const {
        return {p.attention.documents, p.attention.sizes, walk.batch(),
                (kBlocks - 1) * kGroupRows + warp * 16, lane};
    }

    /// The softmax of a tile's scores, with the mask on its last 64 keys; `prob` receives the probabilities.
    template <int kBlocks>
    __device__ __forceinline__ RowSoftmax soften(uint32_t (&prob)[kBlocks * 4][4], float (&s)[kBlocks * 8][4],
                                                 const QueryDocuments<kMask>& documents) const {
        const int row = warp * 16 + lane / 4, key = lane % 4 * 2;
        if constexpr (kMask == Mask::kDocuments) {
            const int stride = p.attention.sizes.stride;
            const ChunkEnds ends(stride);
            unrolled<kBlocks>([&]<int kBlock>() {
                constexpr int kFirst = kBlock * kGroupRows;
                if (kBlock + 1 < kBlocks && !documents.hides(kFirst, stride)) return;
                mask_other_documents(reinterpret_cast<float(&)[8][4]>(s[kBlock * 8]),
                                     (kBlocks - 1) * kGroupRows + row, kFirst + key, ends.from(kFirst + key),
                                     documents.first_key);
            });
        } else if constexpr (kMask == Mask::kStride) {
            const ChunkEnds ends(p.attention.sizes.stride);
            unrolled<kBlocks - 1>([&]<int kBlock>() {
                mask_inside_chunks(reinterpret_cast<float(&)[8][4]>(s[kBlock * 8]),
                                   ends.from(kBlock * kGroupRows + key));
            });
            mask_hidden_keys(reinterpret_cast<float(&)[8][4]>(s[kBlocks * 8 - 8]), row, key,
                             ends.from((kBlocks - 1) * kGroupRows + key));
        } else {
            mask_later_keys(reinterpret_cast<float(&)[8][4]>(s[kBlocks * 8 - 8]), row, key);
        }
        RowSoftmax softmax;
        softmax.compute(s, p.attention.scale * kLog2E);
        to_fragments(prob, s);
        return softmax;
    }

    /// Queues the outputs of a tile.
    template <int kBlocks>
    __device__ __forceinline__ void values(Out& out, const uint32_t (&prob)[kBlocks * 4][4],
                                           SharedAddress stage) const {
        products_begin();
        product_by_columns<typename Tiles::V, kBlocks * 4>(out, prob, stage + Tiles::kValueAt, false);
        products_commit();
    }

    /// Copies a tile's outputs to memory through the warp's place kSlot in shared memory, whose last output
    /// has left.
    template <int kBlocks, int kSlot>
    __device__ __forceinline__ void store(const HeadWalk& walk, const Out& out, RowSoftmax& softmax) const {
        const int tokens = p.attention.sizes.tokens, row = (kBlocks - 1) * kGroupRows + warp * 16;
        const SharedAddress staging =
            shared.base + Tiles::kOutAt + ((group * 4 + warp) * 2 + kSlot) * Tiles::Out::kBytes;
        softmax.finish();
        const float factor0 = 1 / softmax.sum[0], factor1 = 1 / softmax.sum[1];
        std::byte* const memory = shared_pointer(staging) + lane % 4 * 4;
#pragma unroll
        for (int n = 0; n < kResidentWidth / 8; ++n) {
            std::byte* at = memory + swizzled_unit<128>(lane / 4, n);
            *reinterpret_cast<uint32_t*>(at) = pack_bf16(out[n][0] * factor0, out[n][1] * factor0);
            *reinterpret_cast<uint32_t*>(at + 1024) = pack_bf16(out[n][2] * factor1, out[n][3] * factor1);
        }
        shared_written();
        __syncwarp();
        if (lane == 0) {
            store_box(p.out, staging, 0, row, walk.head(), walk.batch());
            stores_commit();
        }
        raise_max_logit(p.attention.max_logit, walk.head(), softmax.maximum, p.attention.scale, row, tokens);
        const int token = row + lane / 4 + lane % 4 * 8;  // lanes 0 and 1 of each quad write
        if (lane % 4 >= 2 || token >= tokens) return;
        const float maximum = lane % 4 == 0 ? softmax.maximum[0] : softmax.maximum[1];
        const float sum = lane % 4 == 0 ? softmax.sum[0] : softmax.sum[1];
        p.attention.lse[static_cast<int64_t>(walk.index) * tokens + token] =
            maximum * p.attention.scale + logf(sum);
    }

    /// Both tiles. All scores come first, so the next head's queries and keys may arrive early; then one
    /// tile's GEMMs run while the other's softmax or output is computed.
    __device__ __forceinline__ void both(const HeadWalk& walk, SharedAddress stage, int index,
                                         int parity) const {
        float s[kLong * 8][4], t[kBrief * 8][4];
        Out out, brief_out;
        const auto long_documents = documents<kLong>(walk), brief_documents = documents<kBrief>(walk);
        products_begin();
        scores<kLong>(s, stage);
        scores<kBrief>(t, stage);
        products_wait<1>();
        products_done(s);
        uint32_t prob[kLong * 4][4], brief_prob[kBrief * 4][4];
        products_wait<0>();
        products_done(t);
        release(shared.qk_empty[index]);
        RowSoftmax softmax = soften<kLong>(prob, s, long_documents);
        mbarrier_sleep(shared.v_full[index], parity);
        values<kLong>(out, prob, stage);
        RowSoftmax brief_softmax = soften<kBrief>(brief_prob, t, brief_documents);
        products_wait<0>();
        products_done(out);
        values<kBrief>(brief_out, brief_prob, stage);
        if (lane == 0) stores_read<0>();  // of the previous head
        __syncwarp();
        store<kLong, 0>(walk, out, softmax);
        products_wait<0>();
        products_done(brief_out);
        release(shared.v_empty[index]);
        store<kBrief, 1>(walk, brief_out, brief_softmax);
    }

    /// The brief tile alone, for a sequence that ends before the long one.
    __device__ __forceinline__ void brief(const HeadWalk& walk, SharedAddress stage, int index,
                                          int parity) const {
        float s[kBrief * 8][4];
        Out out;
        const auto brief_documents = documents<kBrief>(walk);
        products_begin();
        scores<kBrief>(s, stage);
        products_wait<0>();
        products_done(s);
        release(shared.qk_empty[index]);
        uint32_t prob[kBrief * 4][4];
        RowSoftmax softmax = soften<kBrief>(prob, s, brief_documents);
        mbarrier_sleep(shared.v_full[index], parity);
        values<kBrief>(out, prob, stage);
        if (lane == 0) stores_read<0>();
        __syncwarp();
        products_wait<0>();
        products_done(out);
        release(shared.v_empty[index]);
        store<kBrief, 1>(walk, out, softmax);
    }

    __device__ __forceinline__ void run() const {
        Ring<kStages> ring;
        const int tokens = p.attention.sizes.tokens;
        for (HeadWalk walk(p.attention.sizes, 1); !walk.done(); walk.advance(), ring.advance()) {
            const SharedAddress stage = shared.stage(ring.stage);
            mbarrier_sleep(shared.qk_full[ring.stage], ring.parity);
            if constexpr (kRotated != Rotated::kNothing)
                mbarrier_sleep(shared.rotated[ring.stage], ring.parity);
            if ((kLong - 1) * kGroupRows < tokens) {
                both(walk, stage, ring.stage, ring.parity);
            } else if ((kBrief - 1) * kGroupRows < tokens) {
                brief(walk, stage, ring.stage, ring.parity);
            } else {
                release(shared.qk_empty[ring.stage]);
                mbarrier_sleep(shared.v_full[ring.stage], ring.parity);
                release(shared.v_empty[ring.stage]);
            }
        }
        if (lane == 0) stores_read<0>();
    }
};

#endif  // PASTUR_HOPPER

/// out = softmax(scale q k^T, causal) v and lse = log sum exp, after the rotation that kRotated says.
///
/// Persistent CTAs walk over heads. One thread copies the next head's rows by TMA while the consumers, two
/// warpgroups with equal work, compute this head. Queries and keys have other barriers than values, because
/// they are free earlier. Three more warps rotate on the way where kRotated says so.
template <int kShared, Rotated kRotated, Mask kMask>
__global__ void __launch_bounds__(kThreads, 1)
    attention_wgmma_resident_forward_kernel(const __grid_constant__ ForwardKernelParams p) {
#if defined(PASTUR_HOPPER)
    using Tiles = HeadTiles<kShared>;
    constexpr bool kRotates = kRotated != Rotated::kNothing;
    const HeadShared<Tiles> shared;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            mbarrier_init(shared.qk_full[stage], 1);
            mbarrier_init(shared.qk_empty[stage], kConsumerThreads + (kRotates ? kRotators : 0));
            mbarrier_init(shared.rotated[stage], kRotators * 32);
            mbarrier_init(shared.v_full[stage], 1);
            mbarrier_init(shared.v_empty[stage], kConsumerThreads);
        }
        mbarrier_init_done();
    }
    __syncthreads();
    const int warp = warp_index(), group = warp / 4, lane = static_cast<int>(threadIdx.x) % 32;
    if (group == kConsumers) {
        give_registers<kRotates ? RotatingRegisters<kRotated>::kRotator : Registers<kConsumers>::kProducer>();
        if (warp % 4 == kRotators) {
            if (lane == 0) produce<Tiles>(p, shared);
        } else if constexpr (kRotates) {
            Rotator<Tiles, kRotated> rotator{p, shared, warp % 4, lane};
            rotator.run();
        }
    } else {
        take_registers<kRotates ? RotatingRegisters<kRotated>::kConsumer
                                : Registers<kConsumers>::kConsumer>();
        if (group == 0) {
            const ResidentConsumer<Tiles, kRotated, kMask, 4, 1> consumer{p, shared, group, warp % 4, lane};
            consumer.run();
        } else {
            const ResidentConsumer<Tiles, kRotated, kMask, 3, 2> consumer{p, shared, group, warp % 4, lane};
            consumer.run();
        }
    }
#endif
}

/// Tensor maps of the two parts of queries, in boxes of `rows`.
void part_maps(CUtensorMap (&maps)[2], const HeadView<const bf16>& q, const Sizes& sizes, int rows) {
    HeadView<const bf16> second = q;
    second.data += sizes.content;
    maps[0] = head_map(q, sizes.content, sizes, sizes.heads, rows, sizes.content);
    maps[1] =
        sizes.rotary == 0 ? maps[0] : head_map(second, sizes.rotary, sizes, sizes.heads, rows, sizes.rotary);
}

template <int kShared, Rotated kRotated, Mask kMask>
void launch_forward(CudaContext& ctx, const ForwardParams<bf16>& params) {
    using Tiles = HeadTiles<kShared>;
    const Sizes& sizes = params.sizes;
    ForwardKernelParams p{};
    p.attention = params;
    p.copied_rows = padded_tokens(sizes.tokens);
    part_maps(p.maps.q, params.q, sizes, p.copied_rows);
    key_maps(p.maps.k, params.k, params.k_shared, sizes, p.copied_rows);
    p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, p.copied_rows);
    p.out = value_map(read_only(params.out), sizes, sizes.heads, kWarpRows);
    constexpr int kWidth = kRotated == Rotated::kHalfQueries ? kResidentWidth / 2 : kResidentWidth;
    constexpr int kRows = rotated_rows(kWidth);
    // TMA copies of rotated rows must begin where the pattern of eight swizzled rows does.
    p.rotations = static_cast<int>(ceil_div(sizes.tokens, 8 * kRotators)) * (8 / kRows);
    const auto rotated_map = [&](const HeadView<bf16>& view) {
        return head_map(read_only(view), kWidth, sizes, sizes.heads, p.rotations * kRows, kWidth);
    };
    if (kRotated != Rotated::kNothing) p.rotated_q = rotated_map(params.rotated_q);
    if (kRotated == Rotated::kQueriesAndKeys) p.rotated_k = rotated_map(params.rotated_k);
    const int64_t heads = static_cast<int64_t>(sizes.batch) * sizes.heads;
    const auto blocks = std::min<int64_t>(heads, ctx.handles().properties.multiProcessorCount);
    launch(ctx, static_cast<unsigned>(blocks), kThreads, Tiles::kSharedBytes,
           attention_wgmma_resident_forward_kernel<kShared, kRotated, kMask>, p);
}

}  // namespace

bool takes_forward(CudaContext& ctx, const Call& call) {
    return call.bf16_vectors() && has_tensor_copies(ctx) && resident_widths(call.sizes);
}

void forward(CudaContext& ctx, const ForwardParams<bf16>& params) {
    constexpr int kHalf = kResidentWidth / 2;
    visit_mask(params.sizes, params.documents, [&]<Mask kMask>() {
        if (params.sizes.rotary > 0)
            return params.rope_table ? launch_forward<kHalf, Rotated::kHalfQueries, kMask>(ctx, params)
                                     : launch_forward<kHalf, Rotated::kNothing, kMask>(ctx, params);
        if constexpr (kMask != Mask::kStride) {  // resident_widths
            if (!params.rope_table) return launch_forward<0, Rotated::kNothing, kMask>(ctx, params);
            params.rotated_k.data ? launch_forward<0, Rotated::kQueriesAndKeys, kMask>(ctx, params)
                                  : launch_forward<0, Rotated::kQueries, kMask>(ctx, params);
        }
    });
}

}  // namespace pastur::attention::wgmma_resident
