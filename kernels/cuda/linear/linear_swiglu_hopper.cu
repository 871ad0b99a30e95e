// Fused GEMM+SwiGLU on Hopper. Forward: the projection to [gate | up], with out = silu(gate) up as its
// epilogue. Backward: the GEMM that computes the gradient of out, with the gradients of gate and up as its
// epilogue.
//
// The epilogue of a tile keeps the special function unit and memory busy for about a quarter of the time of
// the tile's accumulation, in backward longer. Therefore a tile is only rounded when its accumulation is
// done, and its epilogue runs in chunks while the next tile accumulates. Forward at 16,384 x 2,048 x 5,504 is
// then faster than cuBLASLt's GEMM alone (1.05 and 1.09 ms on an H200 at its power limit).
// Tried without gain: two blocks per multiprocessor with tiles of half the width; warpgroups half a step
// apart; in backward, prefetching gate and up into L2, and three stages with twice the buffers for them (a
// quarter slower).
#include "kernels/cuda/linear/linear_hopper.cuh"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/linear_swiglu.h"

namespace pastur {
namespace linear {
namespace {

/// Columns of F per tile. A tile of forward is 128 columns of gate and the same 128 columns of up.
template <bool kForward>
constexpr int kFfnColumns = kForward ? kTileColumns / 2 : kTileColumns;

/// Here b is [2][F, K] in forward and [K, F] in backward.
struct GatedParams : ProductParams {
    CUtensorMap gu_in;    ///< backward: input [2][tokens, F], in boxes of a warp's 16 rows
    CUtensorMap gu, out;  ///< outputs [2][tokens, F] and [tokens, F], in boxes of a warp's 16 rows
};

#if defined(PASTUR_HOPPER)

inline constexpr int kHalfBytes = kBufferBytes / 2;  ///< 16 rows of 32 columns of gate, or of up
/// Number of chunks of a tile's epilogue.
inline constexpr int kChunks = 8;
/// Backward: the chunk that begins at a step, or -1.
constexpr int chunk_of(int step) {
    return step < 0 || step % 3 == 2 ? -1 : step / 3 * 2 + step % 3;
}

/// One thread of a consuming warpgroup. `rounded` holds gate, then up; in backward, the gradient of out.
template <bool kForward, bool kWritesOut>
struct GatedConsumer : ProductConsumer<!kForward> {
    using Base = ProductConsumer<!kForward>;
    using Base::at, Base::buffer, Base::group, Base::lane, Base::rounded, Base::send, Base::shared,
        Base::has_previous, Base::warp;
    const GatedParams& p;
    bool over = false;  ///< whether there are no further tiles

    __device__ GatedConsumer(const Base& base, const GatedParams& params) : Base(base), p(params) {}

    /// Accumulates a tile, overlapping the first kSpread steps with the epilogue of the previous tile.
    __device__ __forceinline__ void tile(const Place& next) {
        float acc[kTiles][4];
        Base::multiply(
            acc, [&]<int kStep>() __attribute__((always_inline)) { epilogue_step<kStep>(next); });
        if constexpr (!kForward && kWritesOut) after_output<kChunks - 1>(next);
        Base::round(acc, next);
    }

    template <int kStep>
    __device__ __forceinline__ void epilogue_step(const Place& next) {
        if constexpr (kForward) {
            if constexpr (kStep < kChunks) forward_chunk<kStep>();
        } else {
            constexpr int kNow = chunk_of(kStep), kBefore = chunk_of(kStep - 1),
                          kEarlier = chunk_of(kStep - 2);
            if constexpr (kWritesOut && kEarlier >= 0) after_output<kEarlier>(next);
            if constexpr (kBefore >= 0) after_gradients<kBefore>(next);
            if constexpr (kNow >= 0) backward_chunk<kNow>();
        }
    }

    /// One quarter of the work on 64 columns: store gate; store up; compute half of silu(gate) up, in place
    /// of up; compute the other half and store it.
    template <int kChunk>
    __device__ __forceinline__ void forward_chunk() {
        constexpr int kHalf = kChunk / 4, kPart = kChunk % 4;
        uint32_t *const gate = rounded + kHalf * 16, *const up = rounded + kTiles + kHalf * 16;
        const int column = at.column + kHalf * 64;
        if constexpr (kPart == 0) send(p.gu, gate, kHalf, column, 0);
        if constexpr (kPart == 1) send(p.gu, up, 1 - kHalf, column, 1);
        if constexpr (kPart >= 2) {
#pragma unroll
            for (int i = (kPart - 2) * 8; i < (kPart - 1) * 8; ++i) {
                const float g0 = low(gate[i]), g1 = high(gate[i]);
                up[i] = pack_bf16(g0 * sigmoid<bf16>(g0) * low(up[i]), g1 * sigmoid<bf16>(g1) * high(up[i]));
            }
        }
        if constexpr (kPart == 3) send(p.out, up, kHalf, column, 0);
    }

    __device__ __forceinline__ SharedAddress loaded(int chunk) const {
        return shared.loaded[(group * 4 + warp) * 2 + chunk % 2];
    }
    /// Calls run(column, row) with the position of a chunk, which is counted from the previous tile `at` on
    /// and may belong to the tile `next`. Does nothing for chunks after the last tile.
    template <typename Run>
    __device__ __forceinline__ void visit(int chunk, const Place& next, const Run& run) const {
        if (chunk < kChunks)
            run(at.column + chunk * 32, at.row);
        else if (!over)
            run(next.column + (chunk - kChunks) * 32, next.row);
    }
    /// Starts the load of a chunk's gate (half 0) or up (half 1), which complete on loaded(chunk). Called by
    /// lane 0.
    __device__ __forceinline__ void fetch(int chunk, const Place& next, int half) const {
        visit(chunk, next, [&](int column, int row) {
            copy_box(buffer(chunk % 2) + half * kHalfBytes, p.gu_in, loaded(chunk), column, row, half, 0);
        });
    }
    __device__ __forceinline__ void expect(int chunk) const {
        if (chunk < kChunks || !over) mbarrier_expect(loaded(chunk), kBufferBytes);
    }

    /// Computes the gradients of 32 columns in place of gate and up, and starts to store them.
    template <int kChunk>
    __device__ __forceinline__ void backward_chunk() {
        const SharedAddress gates = buffer(kChunk % 2), ups = gates + kHalfBytes;
        mbarrier_sleep(loaded(kChunk), kChunk / 2 % 2);
#pragma unroll
        for (int t = 0; t < 4; t += 2) {
            uint32_t gate[4], up[4];
            load_matrices(gate, Base::template place<64>(gates, t));
            load_matrices(up, Base::template place<64>(ups, t));
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                uint32_t& d = rounded[kChunk * 8 + 2 * t + i];
                float dgate[2], dup[2], silu[2];
#pragma unroll
                for (int j = 0; j < 2; ++j) {
                    const auto half = [&](uint32_t pair) { return j == 0 ? low(pair) : high(pair); };
                    const float g = half(gate[i]), s = sigmoid<bf16>(g);
                    dgate[j] = half(d) * half(up[i]) * s * (1.0f + g * (1.0f - s));
                    dup[j] = half(d) * g * s;
                    silu[j] = g * s * half(up[i]);
                }
                gate[i] = pack_bf16(dgate[0], dgate[1]);
                up[i] = pack_bf16(dup[0], dup[1]);
                if constexpr (kWritesOut) d = pack_bf16(silu[0], silu[1]);
            }
            store_matrices(Base::template place<64>(gates, t), gate);
            store_matrices(Base::template place<64>(ups, t), up);
        }
        shared_written();
        __syncwarp();
        if (lane != 0) return;
        if (has_previous) {
            store_box(p.gu, gates, at.column + kChunk * 32, at.row, 0, 0);
            store_box(p.gu, ups, at.column + kChunk * 32, at.row, 1, 0);
        }
        stores_commit();
    }
    /// When the gradients of a chunk have been read from shared memory: starts the loads of up and gate of
    /// the chunk after next. If kWritesOut, first stores the output of forward from gate's place.
    template <int kChunk>
    __device__ __forceinline__ void after_gradients(const Place& next) const {
        if (lane == 0) {
            stores_read<0>();
            expect(kChunk + 2);
            fetch(kChunk + 2, next, 1);
            if constexpr (!kWritesOut) fetch(kChunk + 2, next, 0);
        }
        if constexpr (kWritesOut) {
            __syncwarp();
            Base::template put<64>(buffer(kChunk % 2), rounded + kChunk * 8);
            shared_written();
            __syncwarp();
            if (lane != 0) return;
            if (has_previous) store_box(p.out, buffer(kChunk % 2), at.column + kChunk * 32, at.row, 0, 0);
            stores_commit();
        }
    }
    /// When the output has been read from shared memory: starts the load of gate.
    template <int kChunk>
    __device__ __forceinline__ void after_output(const Place& next) const {
        if (lane != 0) return;
        stores_read<0>();
        fetch(kChunk + 2, next, 0);
    }

    __device__ void run() {
        ProductWalk walk{p.order};
        const auto next = [&](Place& mine) { return Base::next_of(walk, mine, kFfnColumns<kForward>); };
        Place mine;
        bool more = next(mine);
        // Before the first tile there is no previous one. Its chunks are processed as if there were, but not
        // stored.
        at = mine;
        if (!kForward && lane == 0) {
            for (int chunk = 0; chunk < 2; ++chunk) {
                expect(chunk);
                fetch(chunk, at, 0);
                fetch(chunk, at, 1);
            }
        }
        for (; more; more = next(mine)) tile(mine);
        over = true;
        unrolled<kSpread>([&]<int kStep>() __attribute__((always_inline)) { epilogue_step<kStep>(at); });
        if (lane == 0) stores_done();
    }
};

template <bool kForward>
__device__ __forceinline__ void produce_gated(const GatedParams& p, const ProductShared& shared) {
    const int rank = cluster_rank();
    const auto copy_b = [&](SharedAddress to, SharedAddress barrier, int k, const Place& tile)
        __attribute__((always_inline)) {
        if constexpr (kForward) {  // rank 0 loads rows of gate, rank 1 rows of up
            copy_box_to_both(to + rank * (kBBytes / 2), p.b, barrier, k, tile.column, rank, 0);
        } else {
            for (int part = rank * 2; part < rank * 2 + 2; ++part)
                copy_box_to_both(to + part * kPartBytes, p.b, barrier, tile.column + part * 64, k, 0, 0);
        }
    };
    produce(p, shared, kFfnColumns<kForward>, copy_b);
}

#endif  // PASTUR_HOPPER

template <bool kForward, bool kWritesOut>
__global__ void PASTUR_PAIRS_OF_BLOCKS __launch_bounds__(kThreads, 1)
    linear_swiglu_kernel(const __grid_constant__ GatedParams p) {
#if defined(PASTUR_HOPPER)
    run_products<GatedConsumer<kForward, kWritesOut>>(
        p, [&](const ProductShared& shared)
               __attribute__((always_inline)) { produce_gated<kForward>(p, shared); });
#endif
}

template <bool kForward, bool kWritesOut>
void launch_tiles(CudaContext& ctx, GatedParams& p, int64_t tokens, int64_t ffn, int64_t k) {
    p.steps = static_cast<int>(ceil_div(k, kStageColumns));
    const int clusters = product_clusters(ctx, p.order, tokens, ffn, kFfnColumns<kForward>);
    launch(ctx, 2 * clusters, kThreads, ProductShared::kBytes, linear_swiglu_kernel<kForward, kWritesOut>, p);
}

/// Tensor map of gu [N, 2F] as [2][N, F]: gate and up.
CUtensorMap gate_up_map(const ConstTensor& gu, int box_rows, int box_columns) {
    const int64_t ffn = gu.size(1) / 2;
    return tensor_map({device_data<bf16>(gu), ffn, gu.size(0), 2 * ffn, 2, ffn}, box_rows, box_columns);
}

}  // namespace
}  // namespace linear

bool has_linear_swiglu(CudaContext& ctx, DType dtype) {
    return dtype == DType::kBF16 && has_tensor_copies(ctx);
}

bool has_linear_swiglu(CudaContext& ctx, const ConstTensor& x, const ConstTensor& w, const ConstTensor& gu) {
    using namespace linear;
    static_assert(kFewestGatedColumns == kFewestColumns);
    return has_linear_swiglu(ctx, x.dtype()) && x.size(0) > 0 &&
           linear_swiglu_takes(x.size(1), gu.size(1) / 2) && allows_vectors(x) && allows_vectors(w) &&
           allows_vectors(gu);
}

void linear_swiglu_forward(CudaContext& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w) {
    using namespace linear;
    const int64_t k = x.size(1), ffn = out.size(1);
    GatedParams p{};
    p.a = matrix_map(x, kTileRows, kStageColumns);
    p.b = tensor_map({device_data<bf16>(w), k, ffn, k, 2, ffn * k}, kTileColumns / 2, kStageColumns);
    p.gu = gate_up_map(gu, 16, 64);
    p.out = matrix_map(out, 16, 64);
    launch_tiles<true, true>(ctx, p, x.size(0), ffn, k);
}

void linear_swiglu_backward(CudaContext& ctx, Tensor dgu, Tensor out, ConstTensor dy, ConstTensor w,
                            ConstTensor gu) {
    using namespace linear;
    const int64_t k = dy.size(1), ffn = w.size(1);
    GatedParams p{};
    p.a = matrix_map(dy, kTileRows, kStageColumns);
    p.b = matrix_map(w, kStageColumns, 64);
    p.gu_in = gate_up_map(gu, 16, 32);
    p.gu = gate_up_map(dgu, 16, 32);
    p.out = out.empty() ? p.gu : matrix_map(out, 16, 32);
    if (out.empty())
        launch_tiles<false, false>(ctx, p, dy.size(0), ffn, k);
    else
        launch_tiles<false, true>(ctx, p, dy.size(0), ffn, k);
}

}  // namespace pastur
