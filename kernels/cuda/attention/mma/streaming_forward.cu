// Causal attention forward with mma.sync, for sm_80 and later.
#include "kernels/cuda/attention/cta_position.cuh"
#include "kernels/cuda/attention/mma/queries.cuh"
#include "kernels/cuda/attention/mma/streaming.cuh"
#include "kernels/cuda/attention/paths.h"

namespace pastur::attention::mma_streaming {
namespace {

/// Tiles of the forward kernel: four warps of 16 query rows; two stages of keys and values. Shared memory and
/// registers per CTA of 128 threads, by widths (nvcc 13, sm_90a): 32/32 25 KB, 120; 64/64 45 KB, 128 (four
/// CTAs per multiprocessor); 96/64 57 KB, 153; 128/128 85 KB, 190; 192/128 67 KB, 164; 256/256 99 KB, 242.
template <int kQk, int kV>
struct ForwardTiles {
    static_assert(kQk >= kV, "the output leaves through the query tile");
    static constexpr int kRows = 64;
    static constexpr int kCols = kQk > 128 ? 32 : 64;
    static constexpr int kThreads = kRows / 16 * 32;
    static constexpr int kMinBlocks = kQk <= 64 ? 4 : 2;
    using Q = Tile<kRows, kQk>;
    using K = Tile<kCols, kQk>;
    using V = Tile<kCols, kV>;
    static constexpr int kStageBytes = K::kBytes + V::kBytes;
    static constexpr int kSharedBytes = Q::kBytes + 2 * kStageBytes;
};

/// out = softmax(scale q k^T, causal) v and lse = log sum exp, by the online softmax of Dao et al.
/// (2205.14135).
///
/// One CTA per (sequence, head, 64 query tokens); the CTAs of a head are neighbours, longest first, and share
/// its keys and values through L2. Each warp owns 16 query rows: their scores, their probabilities
/// (accumulators that become operand A without leaving the registers) and their output. Key tiles go upwards
/// from the first one that the CTA sees, the next one in flight while this one is used; only tiles that touch
/// the diagonal, or the first key of a row, are masked, unless there is a stride. Per tile and warp, shared memory delivers 4 kCols (kQk + kV) bytes for 32 kCols
/// (kQk + kV) multiply-adds.
template <int kQk, int kV, Mask kMask>
__global__ void __launch_bounds__(ForwardTiles<kQk, kV>::kThreads, ForwardTiles<kQk, kV>::kMinBlocks)
    attention_mma_streaming_forward_kernel(const ForwardParams<bf16> p) {
    using Tiles = ForwardTiles<kQk, kV>;
    const CtaPosition at(true);
    const int kv_head = at.head / p.sizes.group();
    const auto q_rows = token_rows(p.q, at.batch, at.head, p.sizes.query_key());
    const auto k_rows = token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, kv_head);
    const auto v_rows = token_rows(p.v, at.batch, kv_head, p.sizes.value);
    const int first = at.tile * Tiles::kRows;
    const int steps = (min(first + Tiles::kRows, p.sizes.tokens) + Tiles::kCols - 1) / Tiles::kCols;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int begin = kMask == Mask::kDocuments
                          ? first_key_of(p.documents, p.sizes.tokens, at.batch, first) / Tiles::kCols
                          : 0;

    std::byte* const shared = dynamic_shared();
    const SharedAddress q_tile = shared_address(shared);
    const auto load_stage = [&](int step) {
        const SharedAddress stage = q_tile + Tiles::Q::kBytes + step % 2 * Tiles::kStageBytes;
        load_tile<Tiles::kCols, kQk, Tiles::kThreads>(stage, k_rows, step * Tiles::kCols, p.sizes.tokens);
        load_tile<Tiles::kCols, kV, Tiles::kThreads>(stage + Tiles::K::kBytes, v_rows, step * Tiles::kCols,
                                                     p.sizes.tokens);
    };
    load_tile<Tiles::kRows, kQk, Tiles::kThreads>(q_tile, q_rows, first, p.sizes.tokens);
    load_stage(begin);
    copy_async_commit();

    QueryRows<OperandA<Tiles::kRows, kQk, (kQk <= 32)>, kQk, kV> rows;
    clear(rows.out);
    const float c = p.scale * kLog2E;
    const int row = first + warp * 16;
    const ChunkEnds chunk_ends(p.sizes.stride);
    const QueryDocuments<kMask> documents(p.documents, p.sizes, at.batch, row, lane);
    for (int step = begin; step < steps; ++step) {
        copy_async_wait<0>();
        __syncthreads();  // this stage has arrived, and all warps have used the other one
        if (step + 1 < steps) load_stage(step + 1);
        copy_async_commit();
        if (step == begin) rows.q.load(q_tile, warp * 16, lane);

        const SharedAddress k_tile = q_tile + Tiles::Q::kBytes + step % 2 * Tiles::kStageBytes;
        const SharedAddress v_tile = k_tile + Tiles::K::kBytes;
        const int key = step * Tiles::kCols;
        if (kMask == Mask::kDocuments && key + Tiles::kCols <= documents.least) continue;
        if (key + Tiles::kCols <= first + 1) {
            rows.template attend<Tiles::kCols, false, kMask>(k_tile, v_tile, row, key, c, lane, chunk_ends,
                                                             documents, p.sizes.stride);
            continue;
        }
        // The tile on the diagonal goes by halves; a half whose keys all follow the warp's queries is
        // skipped.
        constexpr int kHalf = Tiles::kCols / 2;
#pragma unroll 1
        for (int half = 0; half < 2 && key + half * kHalf < row + 16; ++half) {
            rows.template attend<kHalf, true, kMask>(
                k_tile + half * kHalf * Tiles::K::kPitch, v_tile + half * kHalf * Tiles::V::kPitch, row,
                key + half * kHalf, c, lane, chunk_ends, documents, p.sizes.stride);
        }
    }

    rows.softmax.finish();
    // Only this warp reads its rows of the query tile, so they are free now.
    store_fragments<kV, Tiles::Q::kPitch>(token_rows(p.out, at.batch, at.head, p.sizes.value), rows.out,
                                          1 / rows.softmax.sum[0], 1 / rows.softmax.sum[1],
                                          shared + warp * 16 * Tiles::Q::kPitch, row, p.sizes.tokens, lane);
    rows.store_lse(p.lse + at.first_row(p.sizes), row, p.sizes.tokens, p.scale, lane);
    raise_max_logit(p.max_logit, at.head, rows.softmax.maximum, p.scale, row, p.sizes.tokens);
}

}  // namespace

void forward(CudaContext& ctx, const ForwardParams<bf16>& params) {
    visit_widths(params.sizes, [&]<int kQk, int kV>() {
        using Tiles = ForwardTiles<kQk, kV>;
        visit_mask(params.sizes, params.documents, [&]<Mask kMask>() {
            launch(ctx, tile_grid(params.sizes, params.sizes.heads, Tiles::kRows), Tiles::kThreads,
                   Tiles::kSharedBytes, attention_mma_streaming_forward_kernel<kQk, kV, kMask>, params);
        });
    });
}

}  // namespace pastur::attention::mma_streaming
