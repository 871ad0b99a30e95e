// Causal attention backward with mma.sync, for sm_80 and later.
//
// With P = softmax(S), S = scale q k^T, out = P v:
//     dv = P^T dout;  dP = dout v^T;  dS = P (dP - delta), delta = rowsum(P dP) = rowsum(dout out);
//     dq = scale dS k;  dk = scale dS^T q.
// P is recomputed from q, k and the saved log-sum-exp. Two kernels, one stationary in the queries (dq), one
// in the keys (dk, dv): every sum stays in one warp's accumulators in a fixed order, at the price of
// computing S and dP twice. In both, the next GEMM's operand A is what the warp holds as accumulators, so
// neither P nor dS goes through shared memory.
#include <algorithm>

#include "kernels/cuda/attention/cta_position.cuh"
#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/mma/streaming.cuh"
#include "kernels/cuda/attention/mma/tiles.cuh"
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/attention/score_gradients.cuh"

namespace pastur::attention::mma_streaming {
namespace {

constexpr int kRows = 64;  ///< stationary rows of a CTA, 16 per warp
constexpr int kThreads = kRows / 16 * 32;

/// Tiles of both kernels: a stationary pair, [kRows, kQk] and [kRows, kV], and two stages of a moving pair of
/// kCols rows, used kStep rows at a time to bound the accumulators of S and dP.
template <int kQk, int kV>
struct BackwardTiles {
    static constexpr int kCols = kQk > 96 ? 32 : 64;
    static constexpr int kStep = kQk > 192 ? 16 : 32;
    static constexpr int kMinBlocks = kQk <= 64 ? 3 : 1;
    using RowsQk = Tile<kRows, kQk>;
    using RowsV = Tile<kRows, kV>;
    using ColsQk = Tile<kCols, kQk>;
    using ColsV = Tile<kCols, kV>;
    static constexpr int kRowsBytes = RowsQk::kBytes + RowsV::kBytes;
    static constexpr int kStatsBytes = kCols * static_cast<int>(sizeof(float2));
    static constexpr int kQueryStageBytes = ColsQk::kBytes + ColsV::kBytes;
    static constexpr int kKeyStageBytes = kQueryStageBytes + kStatsBytes;
    static constexpr int kQuerySharedBytes = kRowsBytes + 2 * kQueryStageBytes;
    static constexpr int kKeySharedBytes = kRowsBytes + 2 * kKeyStageBytes;
};

/// delta of a warp's 16 rows: out comes from memory, requested before the other tiles are waited for, dout
/// from its tile.
template <int kV>
struct RowDeltas {
    static constexpr int kLanes = kV % 64 == 0 ? 8 : 4;  // threads along a row
    static constexpr int kPasses = 16 / (32 / kLanes);   // rows per thread
    static constexpr int kChunks = kV / (8 * kLanes);
    Packed<bf16, 8> out[kPasses][kChunks];

    __device__ void request(const TokenRows<const bf16>& rows, int first, int tokens, int lane) {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
            const int token = first + pass * (32 / kLanes) + lane / kLanes;
#pragma unroll
            for (int i = 0; i < kChunks; ++i) {
                const int column = (lane % kLanes + i * kLanes) * 8;
                out[pass][i] = {};
                if (token < tokens && column < rows.width)
                    out[pass][i] = Packed<bf16, 8>::load(rows.column(column).at(token));
            }
        }
    }

    /// Writes the 16 sums to `deltas`, shared memory of this warp. dout: the warp's first row.
    template <int kPitch>
    __device__ void finish(float* deltas, const std::byte* dout, int lane) const {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
            const int row = pass * (32 / kLanes) + lane / kLanes;
            float sum = 0;
#pragma unroll
            for (int i = 0; i < kChunks; ++i) {
                const int column = (lane % kLanes + i * kLanes) * 8;
                const auto factor =
                    Packed<bf16, 8>::load(reinterpret_cast<const bf16*>(dout + row * kPitch + column * 2));
#pragma unroll
                for (int j = 0; j < 8; ++j) sum += out[pass][i][j] * factor[j];
            }
#pragma unroll
            for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
            if (lane % kLanes == 0) deltas[row] = sum;
        }
        __syncwarp();
    }
};

/// s = S becomes dS = P (dP - delta), for a tile whose rows are queries and whose columns are keys. `ahead`:
/// by how many tokens this thread's first query is ahead of its first key; keys after their query have P = 0,
/// with a stride all others before it whose bit in `ends`, from the thread's first key on, is 0, and with documents
/// those before `hidden` of the row, counted from the thread's first key.
template <Mask kMask, int kTiles>
__device__ void score_gradients_by_query(float (&s)[kTiles][4], const float (&dp)[kTiles][4],
                                         const float (&lse2)[2], const float (&delta)[2], float c, int ahead,
                                         uint64_t ends, const int (&hidden)[2]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float prob = exp2_approximate(s[n][i] * c - lse2[i / 2]);
            const int column = n * 8 + i % 2;
            if (column - i / 2 * 8 > ahead) prob = 0;
            if (kMask != Mask::kCausal && column - i / 2 * 8 != ahead && (ends >> column & 1) == 0) prob = 0;
            if (kMask == Mask::kDocuments && column < hidden[i / 2]) prob = 0;
            s[n][i] = prob * (dp[n][i] - delta[i / 2]);
        }
    }
}

/// dq =, and row_stats = (log2(e) lse, delta) for the other kernel.
///
/// One CTA per (sequence, head, 64 query tokens), longest first; each warp owns 16 queries and walks the key
/// tiles up to the diagonal: S = q k^T and dP = dout v^T in accumulators, dS in place of S, dq += dS k with
/// dS as operand A. Rows past the last token read zeros and lse = +infinity, so their P is 0.
template <int kQk, int kV, Mask kMask>
__global__ void __launch_bounds__(kThreads, BackwardTiles<kQk, kV>::kMinBlocks)
    attention_mma_streaming_backward_query_kernel(const BackwardParams<bf16> p) {
    using Tiles = BackwardTiles<kQk, kV>;
    const CtaPosition at(true);
    const int kv_head = at.head / p.sizes.group(), tokens = p.sizes.tokens;
    const auto k_rows = token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, kv_head);
    const auto v_rows = token_rows(p.v, at.batch, kv_head, p.sizes.value);
    const int first = at.tile * kRows;
    const int steps = (min(first + kRows, tokens) + Tiles::kCols - 1) / Tiles::kCols;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int begin =
        kMask == Mask::kDocuments ? first_key_of(p.documents, tokens, at.batch, first) / Tiles::kCols : 0;

    std::byte* const shared = dynamic_shared();
    const SharedAddress q_tile = shared_address(shared), dout_tile = q_tile + Tiles::RowsQk::kBytes;
    const auto stage_of = [&](int step) {
        return q_tile + Tiles::kRowsBytes + (step - begin) % 2 * Tiles::kQueryStageBytes;
    };
    const auto load_stage = [&](int step) {
        load_tile<Tiles::kCols, kQk, kThreads>(stage_of(step), k_rows, step * Tiles::kCols, tokens);
        load_tile<Tiles::kCols, kV, kThreads>(stage_of(step) + Tiles::ColsQk::kBytes, v_rows,
                                              step * Tiles::kCols, tokens);
    };
    load_tile<kRows, kQk, kThreads>(q_tile, token_rows(p.q, at.batch, at.head, p.sizes.query_key()), first,
                                    tokens);
    load_tile<kRows, kV, kThreads>(dout_tile, token_rows(p.dout, at.batch, at.head, p.sizes.value), first,
                                   tokens);
    load_stage(begin);
    copy_async_commit();

    const int row = first + warp * 16 + lane / 4;  // and row + 8
    const float* lse = p.lse + at.first_row(p.sizes);
    const float lse2[2] = {row < tokens ? lse[row] * kLog2E : INFINITY,
                           row + 8 < tokens ? lse[row + 8] * kLog2E : INFINITY};
    float delta[2];
    {
        RowDeltas<kV> deltas;
        deltas.request(token_rows(p.out, at.batch, at.head, p.sizes.value), first + warp * 16, tokens, lane);
        copy_async_wait<0>();
        __syncthreads();
        // The second stage is still empty: its memory serves the exchange between lanes.
        float* exchange =
            reinterpret_cast<float*>(shared + Tiles::kRowsBytes + Tiles::kQueryStageBytes) + warp * 16;
        deltas.template finish<Tiles::RowsV::kPitch>(
            exchange, shared + Tiles::RowsQk::kBytes + warp * 16 * Tiles::RowsV::kPitch, lane);
        delta[0] = exchange[lane / 4];
        delta[1] = exchange[lane / 4 + 8];
    }
    float2* stats = p.row_stats + at.first_row(p.sizes);
    if (lane % 4 == 0 && row < tokens) stats[row] = {lse2[0], delta[0]};
    if (lane % 4 == 0 && row + 8 < tokens) stats[row + 8] = {lse2[1], delta[1]};

    OperandA<kRows, kQk, (kQk <= 64)> q;
    OperandA<kRows, kV, (kV <= 64)> dout;
    q.load(q_tile, warp * 16, lane);
    dout.load(dout_tile, warp * 16, lane);
    float dq[kQk / 8][4];
    clear(dq);
    const float c = p.scale * kLog2E;
    const ChunkEnds chunk_ends(p.sizes.stride);
    const QueryDocuments<kMask> documents(p.documents, p.sizes, at.batch, first + warp * 16, lane);
    for (int step = begin; step < steps; ++step) {
        copy_async_wait<0>();
        __syncthreads();  // this stage has arrived, and all warps have used the other one
        if (step + 1 < steps) load_stage(step + 1);
        copy_async_commit();

#pragma unroll 1
        for (int part = 0; part < Tiles::kCols; part += Tiles::kStep) {
            const int key = step * Tiles::kCols + part;
            if (key >= first + warp * 16 + 16) break;  // these keys follow all of the warp's queries
            if (kMask == Mask::kDocuments && key + Tiles::kStep <= documents.least) continue;
            const SharedAddress k_part = stage_of(step) + part * Tiles::ColsQk::kPitch;
            const SharedAddress v_part = stage_of(step) + Tiles::ColsQk::kBytes + part * Tiles::ColsV::kPitch;
            float s[Tiles::kStep / 8][4], dp[Tiles::kStep / 8][4];
            multiply_rows<Tiles::kStep, kQk>(s, q, k_part, lane);
            multiply_rows<Tiles::kStep, kV>(dp, dout, v_part, lane);
            const int thread_key = key + lane % 4 * 2;
            const int hidden[2] = {documents.first_key[0] - thread_key, documents.first_key[1] - thread_key};
            score_gradients_by_query<kMask>(s, dp, lse2, delta, c, row - thread_key,
                                            kMask != Mask::kCausal ? chunk_ends.from(thread_key) : 0, hidden);
            accumulate_rows<Tiles::kStep, kQk>(dq, s, k_part, lane);
        }
    }
    store_fragments<kQk, Tiles::RowsQk::kPitch>(token_rows(p.dq, at.batch, at.head, p.sizes.query_key()), dq,
                                                p.scale, p.scale, shared + warp * 16 * Tiles::RowsQk::kPitch,
                                                first + warp * 16, tokens, lane);
}

/// Starts the copy of (log2(e) lse, delta) of queries [first, first + kCols) to the stage of their tile; zero
/// past the last token, where q and dout are zero as well and nothing is added whatever P is.
template <int kCols>
__device__ void load_stats(SharedAddress to, const float2* stats, int first, int tokens) {
    static_assert(kCols <= kThreads);
    const int i = static_cast<int>(threadIdx.x);
    if (i < kCols) {
        const bool valid = first + i < tokens;
        copy_async_8(to + i * static_cast<int>(sizeof(float2)), stats + first + i, valid);
    }
}

/// dk = and dv =, summed over the heads of the group in order and over the queries upwards from the diagonal.
///
/// One CTA per (sequence, key head, 64 key tokens), longest first. The GEMMs are transposed: S^T = k q^T and
/// dP^T = v dout^T have keys as rows, so P^T and dS^T are operand A of dv += P^T dout and dk += dS^T q.
/// kKeys, kValues: which of dk and dv to compute; heads too wide for both sets of accumulators take two
/// launches.
template <int kQk, int kV, bool kKeys, bool kValues, Mask kMask>
__global__ void __launch_bounds__(kThreads, BackwardTiles<kQk, kV>::kMinBlocks)
    attention_mma_streaming_backward_key_kernel(const BackwardParams<bf16> p) {
    using Tiles = BackwardTiles<kQk, kV>;
    const CtaPosition at(false);
    const int tokens = p.sizes.tokens, first = at.tile * kRows;
    const int last_head = (at.head + 1) * p.sizes.group() - 1;
    const int end =
        kMask == Mask::kDocuments ? query_end_of(p.documents, tokens, at.batch, first + kRows - 1) : tokens;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;

    std::byte* const shared = dynamic_shared();
    const SharedAddress k_tile = shared_address(shared), v_tile = k_tile + Tiles::RowsQk::kBytes;
    int stage = Tiles::kRowsBytes, other_stage = stage + Tiles::kKeyStageBytes;  // offsets in shared memory
    const auto load_stage = [&](int to, int head, int query) {
        load_tile<Tiles::kCols, kQk, kThreads>(
            k_tile + to, token_rows(p.q, at.batch, head, p.sizes.query_key()), query, tokens);
        load_tile<Tiles::kCols, kV, kThreads>(k_tile + to + Tiles::ColsQk::kBytes,
                                              token_rows(p.dout, at.batch, head, p.sizes.value), query,
                                              tokens);
        load_stats<Tiles::kCols>(
            k_tile + to + Tiles::kQueryStageBytes,
            p.row_stats + (static_cast<int64_t>(at.batch) * p.sizes.heads + head) * tokens, query, tokens);
    };
    load_tile<kRows, kQk, kThreads>(
        k_tile, token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, at.head), first,
        tokens);
    load_tile<kRows, kV, kThreads>(v_tile, token_rows(p.v, at.batch, at.head, p.sizes.value), first, tokens);
    load_stage(stage, at.head * p.sizes.group(), first);
    copy_async_commit();

    OperandA<kRows, kQk, false> k;
    OperandA<kRows, kV, false> v;
    k.load(k_tile, warp * 16, lane);
    v.load(v_tile, warp * 16, lane);
    float dk[kQk / 8][4], dv[kV / 8][4];
    if constexpr (kKeys) clear(dk);
    if constexpr (kValues) clear(dv);
    const float c = p.scale * kLog2E;
    const KeyPair<kMask> seen(first + warp * 16 + lane / 4, p.sizes, p.documents, at.batch);
    const int warp_end = kMask == Mask::kDocuments
                             ? query_end_of(p.documents, tokens, at.batch, first + warp * 16 + 15)
                             : tokens;
    for (int head = at.head * p.sizes.group(), query = first; head <= last_head;) {
        copy_async_wait<0>();
        __syncthreads();  // this stage has arrived, and all warps have used the other one
        const bool last_tile = query + Tiles::kCols >= end;
        const int next_head = head + last_tile, next_query = last_tile ? first : query + Tiles::kCols;
        if (next_head <= last_head) load_stage(other_stage, next_head, next_query);
        copy_async_commit();

#pragma unroll 1
        for (int part = 0; part < Tiles::kCols; part += Tiles::kStep) {
            if (query + part + Tiles::kStep <= first + warp * 16) continue;  // all before the warp's keys
            if (kMask == Mask::kDocuments && query + part >= warp_end) break;
            const SharedAddress q_part = k_tile + stage + part * Tiles::ColsQk::kPitch;
            const SharedAddress dout_part =
                k_tile + stage + Tiles::ColsQk::kBytes + part * Tiles::ColsV::kPitch;
            const SharedAddress stats =
                k_tile + stage + Tiles::kQueryStageBytes + part * static_cast<int>(sizeof(float2));
            float s[Tiles::kStep / 8][4], dp[Tiles::kStep / 8][4];
            multiply_rows<Tiles::kStep, kQk>(s, k, q_part, lane);
            if constexpr (kKeys) multiply_rows<Tiles::kStep, kV>(dp, v, dout_part, lane);
            probabilities_by_key(s, dp, stats + lane % 4 * 16, c,
                                 query + part + lane % 4 * 2 - (first + warp * 16 + lane / 4), seen);
            if constexpr (kValues) accumulate_rows<Tiles::kStep, kV>(dv, s, dout_part, lane);
            if constexpr (kKeys) accumulate_rows<Tiles::kStep, kQk>(dk, dp, q_part, lane);
        }
        head = next_head;
        query = next_query;
        const int swap = stage;
        stage = other_stage;
        other_stage = swap;
    }
    // Only this warp reads its rows of the stationary tiles, so they are free now.
    if constexpr (kKeys) {
        store_fragments<kQk, Tiles::RowsQk::kPitch>(
            token_rows(p.dk, p.sizes.content, p.dk_shared, p.sizes.rotary, at.batch, at.head), dk, p.scale,
            p.scale, shared + warp * 16 * Tiles::RowsQk::kPitch, first + warp * 16, tokens, lane);
    }
    if constexpr (kValues) {
        store_fragments<kV, Tiles::RowsV::kPitch>(
            token_rows(p.dv, at.batch, at.head, p.sizes.value), dv, 1, 1,
            shared + Tiles::RowsQk::kBytes + warp * 16 * Tiles::RowsV::kPitch, first + warp * 16, tokens,
            lane);
    }
}

}  // namespace

bool takes(CudaContext& ctx, const Call& call) {
    if (!call.bf16_vectors() || call.sizes.query_key() > 256 || call.sizes.value > 256) return false;
    bool fits = true;
    visit_widths(call.sizes, [&]<int kQk, int kV>() {
        using Tiles = BackwardTiles<kQk, kV>;
        const int needed = std::max(Tiles::kQuerySharedBytes, Tiles::kKeySharedBytes);
        fits = static_cast<size_t>(needed) <= ctx.handles().properties.sharedMemPerBlockOptin;
    });
    return fits;
}

BackwardScratch scratch(CudaContext&, const Sizes& sizes) {
    return {.row_stats = int64_t{sizes.batch} * sizes.heads * sizes.tokens, .key_parts = sizes.kv_heads};
}

template <int kQk, int kV, Mask kMask>
static void launch_backward(CudaContext& ctx, const BackwardParams<bf16>& params) {
    using Tiles = BackwardTiles<kQk, kV>;
    launch(ctx, tile_grid(params.sizes, params.sizes.heads, kRows), kThreads, Tiles::kQuerySharedBytes,
           attention_mma_streaming_backward_query_kernel<kQk, kV, kMask>, params);
    const dim3 key_grid = tile_grid(params.sizes, params.sizes.kv_heads, kRows);
    const auto launch_keys = [&](auto kernel) {
        launch(ctx, key_grid, kThreads, Tiles::kKeySharedBytes, kernel, params);
    };
    if constexpr (kQk + kV <= 320) {
        launch_keys(attention_mma_streaming_backward_key_kernel<kQk, kV, true, true, kMask>);
    } else {
        launch_keys(attention_mma_streaming_backward_key_kernel<kQk, kV, true, false, kMask>);
        launch_keys(attention_mma_streaming_backward_key_kernel<kQk, kV, false, true, kMask>);
    }
}

void backward(CudaContext& ctx, const BackwardParams<bf16>& params) {
    visit_widths(params.sizes, [&]<int kQk, int kV>() {
        visit_mask(params.sizes, params.documents,
                   [&]<Mask kMask>() { launch_backward<kQk, kV, kMask>(ctx, params); });
    });
}

}  // namespace pastur::attention::mma_streaming
