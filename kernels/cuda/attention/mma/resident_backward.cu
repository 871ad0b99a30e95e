// Causal attention backward with mma.sync for up to 256 tokens: one pass over everything, a whole (sequence,
// head) on chip.
//
// With P = softmax(S), S = scale q k^T, out = P v:
//     dv = P^T dout;  dP = dout v^T;  dS = P (dP - delta), delta = rowsum(P dP) = rowsum(dout out);
//     dq = scale dS k;  dk = scale dS^T q.
// Unlike mma/streaming_backward.cu this computes S and dP once instead of twice and reads every input from
// memory once. The price is shared memory: q, dout, two generations of k, and the lower triangle of dS, 214
// KB for 256 tokens.
#include "kernels/cuda/attention/mma/resident.cuh"
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/attention/rotation.cuh"
#include "kernels/cuda/attention/score_gradients.cuh"
#include "kernels/cuda/mbarrier.cuh"

namespace pastur::attention::mma_resident {
namespace {

/// Shared memory of a CTA of kWarps warps; offsets in bytes.
template <int kWarps>
struct ResidentMemory {
    using Rows = Tile<kWarps * kWarpRows, kResidentWidth>;
    static constexpr int kPitch = Rows::kPitch;
    static constexpr int kTileBytes = kWarpRows * kPitch;
    static constexpr int kSquareBytes = kWarpRows * kWarpRows * 2;
    static constexpr int kQ = 0;
    static constexpr int kDout = kQ + Rows::kBytes;
    static constexpr int kK = kDout + Rows::kBytes;  ///< keys of this head and of the next, in turn
    static constexpr int kSquares = kK + 2 * Rows::kBytes;
    static constexpr int kStats = kSquares + kWarps * (kWarps + 1) / 2 * kSquareBytes;
    static constexpr int kReady = kStats + kWarps * kWarpRows * static_cast<int>(sizeof(float2));
    static constexpr int kBytes = kReady + kWarps * static_cast<int>(sizeof(uint64_t));

    /// The barrier that completes when a tile's rows of q, dout and stats have arrived.
    __device__ static SharedAddress ready(SharedAddress shared, int tile) {
        return shared + kReady + tile * static_cast<int>(sizeof(uint64_t));
    }
    /// Offset of dS of 16 queries and 16 keys.
    __device__ static int square(int query_tile, int key_tile) {
        return kSquares + (query_tile * (query_tile + 1) / 2 + key_tile) * kSquareBytes;
    }
};

/// What only the warp itself needs of its 16 tokens, on its way from memory to registers.
struct OwnRows {
    RowChunks v, out;
    float lse2;  ///< log2(e) lse of row g in even lanes, of row g + 8 in odd lanes

    __device__ void request(const BackwardParams<bf16>& p, const HeadWalk& walk, int first, int lane) {
        const int batch = walk.batch(), head = walk.head(), tokens = walk.tokens();
        v.request(token_rows(p.v, batch, head, kResidentWidth), first, tokens, lane);
        out.request(token_rows(p.out, batch, head, kResidentWidth), first, tokens, lane);
        const int token = first + lane / 4 + lane % 2 * 8;
        lse2 = token < tokens ? p.lse[static_cast<int64_t>(walk.index) * tokens + token] * kLog2E : INFINITY;
    }

    /// Writes (lse2, delta) of the warp's rows; dout: its first row in shared memory. Rows past the last
    /// token have lse2 = +infinity, so their P is 0.
    __device__ void write_stats(float2* stats, const std::byte* dout, int pitch, int lane) const {
        float delta[2] = {0, 0};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const auto factor = Packed<bf16, 8>::load(reinterpret_cast<const bf16*>(
                    dout + (lane / 4 + half * 8) * pitch + (lane % 4 + i * 4) * 16));
#pragma unroll
                for (int j = 0; j < 8; ++j) delta[half] += out.chunk[half][i][j] * factor[j];
            }
            delta[half] += __shfl_xor_sync(kAllLanes, delta[half], 1);
            delta[half] += __shfl_xor_sync(kAllLanes, delta[half], 2);
        }
        if (lane % 4 < 2) stats[lane / 4 + lane % 2 * 8] = {lse2, lane % 2 == 0 ? delta[0] : delta[1]};
    }
};

/// Starts the copies of a warp's 16 tokens that all warps need.
template <int kWarps, bool kSharedKey>
__device__ void copy_shared_rows(const BackwardParams<bf16>& p, const HeadWalk& walk, SharedAddress shared,
                                 int generation, int tile, int lane) {
    using Memory = ResidentMemory<kWarps>;
    const int batch = walk.batch(), head = walk.head(), tokens = walk.tokens(), first = tile * kWarpRows;
    shared += tile * Memory::kTileBytes;
    copy_tile(shared + Memory::kQ, Memory::kPitch, token_rows(p.q, batch, head, kResidentWidth), first,
              tokens, lane);
    copy_tile(shared + Memory::kDout, Memory::kPitch, token_rows(p.dout, batch, head, kResidentWidth), first,
              tokens, lane);
    copy_tile(shared + Memory::kK + generation * Memory::Rows::kBytes, Memory::kPitch,
              key_rows<kSharedKey>(p.k, p.k_shared, batch, head, head), first, tokens, lane);
}

/// Operands and gradients of a warp's 16 keys while it walks the queries.
template <Mask kMask>
struct KeyTile {
    using Operand = OperandA<kWarpRows, kResidentWidth, true>;
    Operand k, v;
    float dk[8][4], dv[8][4];

    __device__ void start(bool rotary) {
        clear(dv);
#pragma unroll
        for (int n = 0; n < 8; ++n) {
            if (n == 4 && !rotary) break;
#pragma unroll
            for (int i = 0; i < 4; ++i) dk[n][i] = 0;
        }
    }

    /// Adds 16 queries; `square` receives dS, as the four 8 x 8 matrices of its transpose. `ahead`: as in
    /// KeyPair::hidden.
    __device__ void attend(SharedAddress q, int to_dout, SharedAddress stats, uint32_t* square, float c,
                           int ahead, const KeyPair<kMask>& pair, int lane) {
        using Rows = Tile<kWarpRows, kResidentWidth>;
        float s[2][4], dp[2][4];
        {
            const SharedAddress at = Rows::lane_b(q, lane);
            multiply_rows<kWarpRows, kResidentWidth>(s, k, at, 0);
            multiply_rows<kWarpRows, kResidentWidth>(dp, v, at + to_dout, 0);
        }
        probabilities_by_key(s, dp, stats + lane % 4 * 16, c, ahead, pair);
        // Queries run along words of dS^T, as operand A needs them for dk; for dq ldmatrix transposes.
        square[lane] = pack_bf16(dp[0][0], dp[0][1]);
        square[lane + 32] = pack_bf16(dp[1][0], dp[1][1]);
        square[lane + 64] = pack_bf16(dp[0][2], dp[0][3]);
        square[lane + 96] = pack_bf16(dp[1][2], dp[1][3]);
        const SharedAddress at = Rows::lane_a(q, 0, lane);
        accumulate_rows<kWarpRows, kResidentWidth>(dv, s, at + to_dout, 0);
        accumulate_rows<kWarpRows, kResidentWidth>(dk, dp, at, 0);
    }
};

/// dk and dv of a warp's 16 keys, over the queries from the last down to the same tokens'; dS goes to the
/// squares. After each query tile the warp arrives at the tile's barrier. dS of query tiles that see none of the keys
/// is 0.
template <int kWarps, Mask kMask>
__device__ void walk_queries(KeyTile<kMask>& keys, const BackwardParams<bf16>& p, int batch,
                             std::byte* shared, int tile, int tiles, int parity, float c, int lane) {
    using Memory = ResidentMemory<kWarps>;
    const KeyPair<kMask> pair(tile * kWarpRows + lane / 4, p.sizes, p.documents, batch);
    const int end = kMask == Mask::kDocuments
                        ? query_end_of(p.documents, p.sizes.tokens, batch, tile * kWarpRows + kWarpRows - 1)
                        : p.sizes.tokens;
    const SharedAddress base = shared_address(shared);
    bool ready = mbarrier_complete(Memory::ready(base, tiles - 1), parity);
#pragma unroll 1
    for (int query = tiles - 1; query >= tile; --query) {
        while (!ready) ready = mbarrier_complete(Memory::ready(base, query), parity);
        __syncwarp();
        // Tested early, so the answer is there in the next round.
        ready = mbarrier_complete(Memory::ready(base, query > tile ? query - 1 : query), parity);
        uint32_t* const square = reinterpret_cast<uint32_t*>(shared + Memory::square(query, tile));
        if (kMask == Mask::kDocuments && query * kWarpRows >= end) {
#pragma unroll
            for (int i = 0; i < 4; ++i) square[lane + 32 * i] = 0;
        } else {
            const int within = lane % 4 * 2 - lane / 4;
            const int ahead = kMask == Mask::kDocuments ? (query - tile) * kWarpRows + within
                              : query == tile           ? within
                                                        : kWarpRows;
            keys.attend(base + Memory::kQ + query * Memory::kTileBytes, Memory::kDout - Memory::kQ,
                        base + Memory::kStats + query * kWarpRows * static_cast<int>(sizeof(float2)), square,
                        c, ahead, pair, lane);
        }
        if (query > tile) barrier_arrive(query, (query + 1) * 32);
    }
}

/// Stores dv and dk of a warp's 16 keys; the shared part of dk at the end of a run.
template <bool kSharedKey, Mask kMask>
__device__ void store_key_gradients(const BackwardParams<bf16>& p, const HeadWalk& walk,
                                    const KeyTile<kMask>& keys, int first, int lane) {
    const int batch = walk.batch(), head = walk.head(), tokens = p.sizes.tokens;
    const auto dk_rows = key_rows<kSharedKey>(p.dk, p.dk_shared, batch, head, head / walk.run);
    store_block(token_rows(p.dv, batch, head, kResidentWidth), keys.dv, 1, 1, first, tokens, lane);
    store_columns<0, 1>(dk_rows, keys.dk, p.scale, p.scale, first, tokens, lane);
    if (!kSharedKey || walk.ends_run())
        store_columns<1, 2>(dk_rows, keys.dk, p.scale, p.scale, first, tokens, lane);
}

/// dq of a warp's 16 queries: the sum over key tiles 0 ... tile of dS k, in order.
__device__ inline void query_gradient(float (&dq)[8][4], SharedAddress squares, SharedAddress k, int tile,
                                      int square_bytes, int tile_bytes, int lane) {
    using Rows = Tile<kWarpRows, kResidentWidth>;
    clear(dq);
    SharedAddress square = squares + lane * 16;
    SharedAddress rows = Rows::lane_a(k, 0, lane);
#pragma unroll 2
    for (int i = 0; i <= tile; ++i, square += square_bytes, rows += tile_bytes) {
        uint32_t fa[4];
        load_matrices_transposed(fa, square);
#pragma unroll
        for (int n = 0; n < kResidentWidth / 16; ++n) {
            uint32_t fb[4];
            load_matrices_transposed(fb, rows + n * 32);
            multiply_add(dq[2 * n], fa, fb[0], fb[1]);
            multiply_add(dq[2 * n + 1], fa, fb[2], fb[3]);
        }
    }
}

/// dq =, dk =, dv =, and dk_shared = the sum over a run of heads, where keys have a shared part (kSharedKey:
/// 32 content columns, 32 rotary ones).
///
/// A CTA walks over heads; warp w owns 16 tokens. For its keys it walks the queries from the last down to its
/// own: P^T and dS^T are operand A of dv += P^T dout and dk += dS^T q, and dS goes to shared memory. For its
/// queries it sums dq once all warps have used query tile i (barrier i). Query tiles finish from the last to
/// the first, as the warps that own them end their walk. Rows of q and dout of a finished tile are free for
/// the next head: the owner starts their copies at once, goes on to that head, and arrives at the tile's
/// mbarrier when they are there. No point joins all warps: those with few queries run up to a head ahead of
/// those with many. What only the warp needs (v, out, lse) goes straight to registers.
///
/// Nothing is overwritten too early: a warp writes tile i of q, dout and stats after barrier i; row i of the
/// squares after tile i of this head has arrived, by when its owner has used the previous head's row; and the
/// next head's keys after all later tiles of this head have arrived, by when their owners have left the
/// previous head, whose keys had that place.
template <int kWarps, Mask kMask, bool kSharedKey, bool kRotate, bool kRotateKeys = kRotate>
__global__ void __launch_bounds__(kWarps * 32, kResidentWarps / kWarps)
    attention_mma_resident_backward_kernel(const BackwardParams<bf16> p, int run) {
    using Memory = ResidentMemory<kWarps>;
    const int warp = warp_index();
    int lane = static_cast<int>(threadIdx.x) % 32;
    const int tile = tile_of_warp(warp), first = tile * kWarpRows, tokens = p.sizes.tokens;
    const int tiles = (tokens + kWarpRows - 1) / kWarpRows;
    std::byte* const shared = dynamic_shared();
    const SharedAddress base = shared_address(shared);
    float2* const stats = reinterpret_cast<float2*>(shared + Memory::kStats);
    const float c = p.scale * kLog2E;

    if (threadIdx.x < kWarps)
        mbarrier_init(base + Memory::kReady + static_cast<int>(threadIdx.x * sizeof(uint64_t)), 32);
    __syncthreads();
    if (tile >= tiles) return;
    HeadWalk walk(p.sizes, run);
    OwnRows own;
    KeyTile<kMask> keys;
    copy_shared_rows<kWarps, kSharedKey>(p, walk, base, 0, tile, lane);
    copy_async_commit();
    own.request(p, walk, first, lane);
    for (int generation = 0;; generation ^= 1) {
        const SharedAddress k_rows = base + Memory::kK + generation * Memory::Rows::kBytes;
        copy_async_wait<0>();
        __syncwarp();
        own.write_stats(stats + first, shared + Memory::kDout + tile * Memory::kTileBytes, Memory::kPitch,
                        lane);
        own.v.to_fragments(keys.v.kept, lane);
        keys.k.load(k_rows, first, lane);
        mbarrier_arrive(Memory::ready(base, tile));
        keys.start(!kSharedKey || walk.starts_run());
        walk_queries<kWarps>(keys, p, walk.batch(), shared, tile, tiles, generation, c, lane);
        lane = computed_here(lane);
        RowAngles<kSharedKey ? 2 : 4> angles;
        if constexpr (kRotateKeys) angles.request(p.rope_table, first, tokens, lane);
        if (tile > 0)
            barrier_wait(tile, (tile + 1) * 32);
        else
            __syncwarp();
        HeadWalk next = walk;
        next.advance();
        copy_shared_rows<kWarps, kSharedKey>(p, next, base, generation ^ 1, tile, lane);
        copy_async_commit();
        if (kRotateKeys && (!kSharedKey || walk.ends_run())) angles.rotate_back(keys.dk);
        own.request(p, next, first, lane);

        const int batch = walk.batch(), head = walk.head();
        store_key_gradients<kSharedKey>(p, walk, keys, first, lane);

        if constexpr (kRotate) angles.request(p.rope_table, first, tokens, lane);
        float dq[8][4];
        query_gradient(dq, base + Memory::square(tile, 0), k_rows, tile, Memory::kSquareBytes,
                       Memory::kTileBytes, lane);
        if constexpr (kRotate) angles.rotate_back(dq);
        store_block(token_rows(p.dq, batch, head, kResidentWidth), dq, p.scale, p.scale, first, tokens, lane);
        if (next.done()) return;
        walk = next;
    }
}

}  // namespace

bool takes_backward(CudaContext& ctx, const Call& call) {
    if (!call.bf16_vectors() || !resident_widths(call.sizes) || call.sizes.group() != 1) return false;
    bool fits = true;
    visit_warps(call.sizes.tokens, [&]<int kWarps>() {
        fits = static_cast<size_t>(ResidentMemory<kWarps>::kBytes) <=
               ctx.handles().properties.sharedMemPerBlockOptin;
    });
    return fits;
}

/// Number of partial sums of dk_shared: the smallest that costs the busiest CTA at most 6 % more heads.
static int key_parts(CudaContext& ctx, const Sizes& sizes) {
    int slots = 0;
    visit_warps(sizes.tokens, [&]<int kWarps>() { slots = cta_slots(ctx, kWarps); });
    // Heads that the busiest CTA works on in sequence.
    const auto rounds = [&](int parts) {
        return ceil_div(static_cast<int64_t>(sizes.batch) * parts, slots) * (sizes.heads / parts);
    };
    for (int parts = 1; parts < sizes.heads; ++parts)
        if (sizes.heads % parts == 0 && rounds(parts) * 100 <= rounds(sizes.heads) * 106) return parts;
    return sizes.heads;
}

BackwardScratch scratch(CudaContext& ctx, const Sizes& sizes) {
    return {.key_parts = sizes.rotary > 0 ? key_parts(ctx, sizes) : sizes.heads};
}

void backward(CudaContext& ctx, const BackwardParams<bf16>& params) {
    const int run = params.sizes.heads / scratch(ctx, params.sizes).key_parts;
    const int64_t items = static_cast<int64_t>(params.sizes.batch) * (params.sizes.heads / run);
    visit_warps(params.sizes.tokens, [&]<int kWarps>() {
        const auto launch_kernel = [&](auto kernel) {
            launch(ctx, static_cast<unsigned>(std::min<int64_t>(items, cta_slots(ctx, kWarps))), kWarps * 32,
                   ResidentMemory<kWarps>::kBytes, kernel, params, run);
        };
        visit_mask(params.sizes, params.documents, [&]<Mask kMask>() {
            if (params.sizes.rotary > 0)
                launch_kernel(params.rope_table
                                  ? attention_mma_resident_backward_kernel<kWarps, kMask, true, true>
                                  : attention_mma_resident_backward_kernel<kWarps, kMask, true, false>);
            else if constexpr (kMask != Mask::kStride)  // resident_widths
                launch_kernel(
                    !params.rope_table ? attention_mma_resident_backward_kernel<kWarps, kMask, false, false>
                    : params.rotated_keys
                        ? attention_mma_resident_backward_kernel<kWarps, kMask, false, true>
                        : attention_mma_resident_backward_kernel<kWarps, kMask, false, true, false>);
        });
    });
}

}  // namespace pastur::attention::mma_resident
