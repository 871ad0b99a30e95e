// Causal attention forward with mma.sync for up to 256 tokens, the keys and values of a whole (sequence,
// head) on chip.
#include "kernels/cuda/attention/mma/queries.cuh"
#include "kernels/cuda/attention/mma/resident.cuh"
#include "kernels/cuda/attention/paths.h"

namespace pastur::attention::mma_resident {
namespace {

/// Shared memory of a CTA: keys and values of two heads in turn, and queries.
struct ForwardMemory {
    using Rows = Tile<kResidentTokens, kResidentWidth>;
    static constexpr int kTileBytes = kWarpRows * Rows::kPitch;
    static constexpr int kHeadBytes = 2 * Rows::kBytes;
    static constexpr int kQ = 2 * kHeadBytes;
    static constexpr int kBytes = kQ + Rows::kBytes;
};

using ResidentQueries = QueryRows<OperandA<kWarpRows, kResidentWidth, true>, kResidentWidth, kResidentWidth>;

/// Starts the copies of a warp's 16 tokens: its own queries, and keys and values for all warps.
__device__ void copy_rows(const ForwardParams<bf16>& p, const HeadWalk& walk, SharedAddress shared,
                          int generation, int tile, int lane) {
    using Memory = ForwardMemory;
    const int batch = walk.batch(), head = walk.head(), kv_head = head / p.sizes.group();
    const auto copy = [&](int offset, const TokenRows<const bf16>& rows) {
        copy_tile(shared + offset + tile * Memory::kTileBytes, Memory::Rows::kPitch, rows, tile * kWarpRows,
                  walk.tokens(), lane);
    };
    const int keys = generation * Memory::kHeadBytes;
    copy(Memory::kQ, token_rows(p.q, batch, head, kResidentWidth));
    copy(keys, token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, batch, kv_head));
    copy(keys + Memory::Rows::kBytes, token_rows(p.v, batch, kv_head, kResidentWidth));
}

/// Rotates a warp's 16 queries and keys (rope.h, kForward), in shared memory and in memory. A lane has 8
/// columns and their partners half the width further.
template <Rotated kRotated>
__device__ void rotate_rows(const ForwardParams<bf16>& p, const HeadWalk& walk, std::byte* q_rows,
                            std::byte* k_rows, int first, int lane) {
    constexpr int kPitch = ForwardMemory::Rows::kPitch;
    constexpr int kBegin = kRotated == Rotated::kHalfQueries ? kResidentWidth / 2 : 0;
    constexpr int kWidth = kResidentWidth - kBegin, kHalf = kWidth / 2, kLanes = kHalf / 8;
    const int column = lane % kLanes * 8, tokens = p.sizes.tokens;
#pragma unroll 1
    for (int row = lane / kLanes; row < kWarpRows; row += 32 / kLanes) {
        const int token = min(first + row, tokens - 1);  // rows past the last token are zero
        const float* angles = p.rope_table + token * kWidth + column;
        const auto cosine = Packed<float, 8>::load(angles), sine = Packed<float, 8>::load(angles + kHalf);
        const auto rotate = [&](std::byte* rows, const HeadView<bf16>& view) {
            bf16* at = reinterpret_cast<bf16*>(rows + row * kPitch) + kBegin + column;
            const auto x = Packed<bf16, 8>::load(at), y = Packed<bf16, 8>::load(at + kHalf);
            const auto low = Packed<bf16, 8>::of([&](int i) { return x[i] * cosine[i] - y[i] * sine[i]; });
            const auto high = Packed<bf16, 8>::of([&](int i) { return y[i] * cosine[i] + x[i] * sine[i]; });
            low.store(at);
            high.store(at + kHalf);
            if (first + row >= tokens) return;
            bf16* to = view.at(walk.batch(), walk.head()) + static_cast<int64_t>(token) * view.token + column;
            low.store(to);
            high.store(to + kHalf);
        };
        rotate(q_rows, p.rotated_q);
        if constexpr (kRotated == Rotated::kQueriesAndKeys) rotate(k_rows, p.rotated_k);
    }
}

/// Attends a warp's 16 queries, from `row` on, to the keys up to the diagonal, from the first one that they see: whole
/// tiles of 64, then the 16 to 64 keys that end on it.
template <Mask kMask>
__device__ void attend_all(ResidentQueries& rows, SharedAddress keys, int row, float c, int stride, int lane,
                           const QueryDocuments<kMask>& documents) {
    using Rows = ForwardMemory::Rows;
    const SharedAddress values = keys + Rows::kBytes;
    const ChunkEnds chunk_ends(stride);
    int key = kMask == Mask::kDocuments ? documents.least / 64 * 64 : 0;
#pragma unroll 1
    for (; key + 64 <= row; key += 64)
        rows.template attend<64, false, kMask>(keys + key * Rows::kPitch, values + key * Rows::kPitch, row,
                                               key, c, lane, chunk_ends, documents, stride);
    const auto last = [&]<int kKeys>() {
        rows.template attend<kKeys, true, kMask>(keys + key * Rows::kPitch, values + key * Rows::kPitch, row,
                                                 key, c, lane, chunk_ends, documents, stride);
    };
    switch ((row - key) / kWarpRows) {
        case 0:
            return last.template operator()<16>();
        case 1:
            return last.template operator()<32>();
        case 2:
            return last.template operator()<48>();
        default:
            return last.template operator()<64>();
    }
}

/// out = softmax(scale q k^T, causal) v and lse = log sum exp, by the online softmax of Dao et al.
/// (2205.14135), after rotate_rows where kRotated says so.
///
/// A CTA walks over heads; warp w owns 16 queries and copies the keys and values of the same tokens for all
/// warps. While one head is computed, the rows of the next arrive: one __syncthreads per head, and memory is
/// never idle.
template <Rotated kRotated, Mask kMask>
__global__ void __launch_bounds__(kResidentWarps * 32, 1)
    attention_mma_resident_forward_kernel(const ForwardParams<bf16> p) {
    using Memory = ForwardMemory;
    int lane = static_cast<int>(threadIdx.x) % 32;
    const int tile = tile_of_warp(warp_index());
    const int first = tile * kWarpRows, tokens = p.sizes.tokens;
    std::byte* const shared = dynamic_shared();
    const SharedAddress base = shared_address(shared);
    const float c = p.scale * kLog2E;

    HeadWalk walk(p.sizes, 1);
    if (first >= tokens) {
        for (; !walk.done(); walk.advance()) __syncthreads();
        return;
    }
    copy_rows(p, walk, base, 0, tile, lane);
    copy_async_commit();
    for (int generation = 0; !walk.done(); generation ^= 1) {
        ResidentQueries rows;
        clear(rows.out);
        const QueryDocuments<kMask> documents(p.documents, p.sizes, walk.batch(), first, lane);
        copy_async_wait<0>();
        if constexpr (kRotated != Rotated::kNothing) {
            __syncwarp();
            rotate_rows<kRotated>(p, walk, shared + Memory::kQ + tile * Memory::kTileBytes,
                                  shared + generation * Memory::kHeadBytes + tile * Memory::kTileBytes, first,
                                  computed_here(lane));
        }
        __syncthreads();  // this head's rows have arrived, and all warps have used the last head's
        const HeadWalk here = walk;
        walk.advance();
        rows.q.load(base + Memory::kQ, first, lane);
        __syncwarp();
        copy_rows(p, walk, base, generation ^ 1, tile, lane);
        copy_async_commit();

        attend_all(rows, base + generation * Memory::kHeadBytes, first, c, p.sizes.stride, lane, documents);
        rows.softmax.finish();
        lane = computed_here(lane);
        store_block(token_rows(p.out, here.batch(), here.head(), kResidentWidth), rows.out,
                    1 / rows.softmax.sum[0], 1 / rows.softmax.sum[1], first, tokens, lane);
        rows.store_lse(p.lse + static_cast<int64_t>(here.index) * tokens, first, tokens, p.scale, lane);
        raise_max_logit(p.max_logit, here.head(), rows.softmax.maximum, p.scale, first, tokens);
    }
}

}  // namespace

bool takes_forward(CudaContext& ctx, const Call& call) {
    // Up to 128 tokens mma-streaming also reads every input once.
    return call.bf16_vectors() && resident_widths(call.sizes) && call.sizes.tokens > 128 &&
           static_cast<size_t>(ForwardMemory::kBytes) <= ctx.handles().properties.sharedMemPerBlockOptin;
}

void forward(CudaContext& ctx, const ForwardParams<bf16>& params) {
    const int64_t items = static_cast<int64_t>(params.sizes.batch) * params.sizes.heads;
    const int64_t ctas = std::min<int64_t>(items, cta_slots(ctx, kResidentWarps));
    visit_mask(params.sizes, params.documents, [&]<Mask kMask>() {
        const auto run = [&](auto kernel) {
            launch(ctx, static_cast<unsigned>(ctas), kResidentWarps * 32, ForwardMemory::kBytes, kernel,
                   params);
        };
        if (params.sizes.rotary > 0)
            run(params.rope_table ? attention_mma_resident_forward_kernel<Rotated::kHalfQueries, kMask>
                                  : attention_mma_resident_forward_kernel<Rotated::kNothing, kMask>);
        else if constexpr (kMask != Mask::kStride)  // resident_widths
            run(!params.rope_table ? attention_mma_resident_forward_kernel<Rotated::kNothing, kMask>
                : params.rotated_k.data
                    ? attention_mma_resident_forward_kernel<Rotated::kQueriesAndKeys, kMask>
                    : attention_mma_resident_forward_kernel<Rotated::kQueries, kMask>);
    });
}

}  // namespace pastur::attention::mma_resident
