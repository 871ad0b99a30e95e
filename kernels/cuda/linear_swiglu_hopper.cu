// A linear layer and SwiGLU in one kernel on Hopper: forward, the fused projection [gate | up] with out =
// silu(gate) up as its epilogue; backward, the product that gives out's gradient, with the gradients of gate
// and up as its.
//
// The special function unit and memory need for a tile's epilogue about a quarter as long as its products
// take, backward longer. So a tile is only rounded when its products are done, and goes its way in chunks
// while the next tile's products run. Forward at 16,384 x 2,048 x 5,504 is then faster than cuBLASLt's
// product alone (1.05 and 1.09 ms on an H200 at its power limit). Tried without gain: two blocks of half as
// wide tiles on a multiprocessor, warpgroups half a step apart, gate and up brought into L2 ahead (backward).
#include "kernels/cuda/linear_swiglu_hopper.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/linear_swiglu.h"

namespace pastur {
namespace gated {
namespace {

#if defined(PASTUR_HOPPER)

/// The two numbers of a pair.
__device__ __forceinline__ float low(uint32_t pair) {
    return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}

/// One thread of a consuming warpgroup.
template <bool kForward, bool kWritesOut>
struct GatedConsumer {
    const GatedParams& p;
    const GatedShared& shared;
    int group, warp, lane;
    Ring<kStages> ring = {};
    /// What the last tile's products left, rounded, in pairs of columns: of gate, then of up; of out's
    /// gradient.
    uint32_t made[kTiles * 2] = {};
    Place at = {};
    bool there = false;  ///< whether there was one
    bool over = false;   ///< whether there will be no other

    /// Both blocks' producers write into this stage of both.
    __device__ __forceinline__ void release(int stage) const {
        __syncwarp();
        if (lane < 2) mbarrier_arrive_at(shared.empty[stage], lane);
    }

    /// Queues the products of the next stage, whose number it returns.
    __device__ __forceinline__ int step(float (&acc)[kTiles][4], bool keep) {
        mbarrier_sleep(shared.full[ring.stage], ring.parity);
        // In a cluster an address names the block too, in bits that a descriptor has no place for.
        const SharedAddress stage = shared.stage(ring.stage) & 0x3ffff;
        const SharedAddress a = stage + group * kGroupRows * 128, b = stage + kABytes;
        products_begin();
        unrolled<kStageColumns / 16>([&]<int kStep>() __attribute__((always_inline)) {
            const uint64_t left = SwizzledRows<kGroupRows, 64>::descriptor<64, kStep * 32>(a);
            if constexpr (kForward) {
                product_of_rows<kTileColumns>(acc, left,
                                              SwizzledRows<kTileColumns, 64>::descriptor<64, kStep * 32>(b),
                                              keep || kStep > 0);
            } else {
                // From one part's 64 columns to the next's, in place of the 1 that a descriptor has here.
                constexpr uint64_t kParts = static_cast<uint64_t>(kPartBytes / 16 - 1) << 16;
                product_of_rows_and_columns(
                    acc, left, SwizzledRows<kStageColumns, 64>::descriptor<64, kStep * 16 * 128>(b) + kParts,
                    keep || kStep > 0);
            }
        });
        products_commit();
        const int number = ring.stage;
        ring.advance();
        return number;
    }

    /// A tile's products, and beside the first kSpread steps the chunks of the tile before.
    __device__ __forceinline__ void tile(const Place& next) {
        float acc[kTiles][4];
        int last = 0;
        const auto advance = [&](int number) {
            products_wait<1>();
            release(last);
            last = number;
        };
        unrolled<kSpread>([&]<int kStep>() __attribute__((always_inline)) {
            const int number = step(acc, kStep > 0);
            beside<kStep>(next);
            if constexpr (kStep > 0)
                advance(number);
            else
                last = number;
        });
        for (int i = kSpread; i < p.steps; ++i) advance(step(acc, true));
        products_wait<0>();
        products_done(acc);
        release(last);
        if constexpr (!kForward && kWritesOut) out_left<kChunks - 1>(next);
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
            made[2 * t] = pack_bf16(acc[t][0], acc[t][1]);
            made[2 * t + 1] = pack_bf16(acc[t][2], acc[t][3]);
        }
        at = next;
        there = true;
    }

    template <int kStep>
    __device__ __forceinline__ void beside(const Place& next) {
        if constexpr (kForward) {
            if constexpr (kStep < kChunks) forward_chunk<kStep>();
        } else {
            constexpr int kNow = chunk_of(kStep), kBefore = chunk_of(kStep - 1),
                          kEarlier = chunk_of(kStep - 2);
            if constexpr (kWritesOut && kEarlier >= 0) out_left<kEarlier>(next);
            if constexpr (kBefore >= 0) left<kBefore>(next);
            if constexpr (kNow >= 0) backward_chunk<kNow>();
        }
    }

    __device__ __forceinline__ SharedAddress buffer(int index) const {
        return shared.base + GatedShared::kBuffersAt + ((group * 4 + warp) * 2 + index) * kBufferBytes;
    }
    /// Puts 16 rows of kRowBytes there.
    template <int kRowBytes>
    __device__ __forceinline__ void put(SharedAddress rows, const uint32_t* words) const {
#pragma unroll
        for (int t = 0; t < kRowBytes / 16; t += 2) {
            const uint32_t r[4] = {words[2 * t], words[2 * t + 1], words[2 * t + 2], words[2 * t + 3]};
            store_matrices(place<kRowBytes>(rows, t), r);
        }
    }
    /// Where this lane's row of tile and tile + 1 lies.
    template <int kRowBytes>
    __device__ __forceinline__ SharedAddress place(SharedAddress rows, int tile) const {
        const int row = lane % 16;
        return rows + row * kRowBytes + swizzled<kRowBytes>(row, tile + lane / 16) * 16;
    }

    /// 16 words, 64 columns, on their way out. Two buffers take turns.
    __device__ __forceinline__ void send(const CUtensorMap& map, const uint32_t* words, int index, int column,
                                         int head) const {
        if (lane == 0) stores_read<1>();
        __syncwarp();
        const SharedAddress rows = buffer(index);
        put<128>(rows, words);
        shared_written();
        __syncwarp();
        if (lane != 0) return;
        if (there) store_box(map, rows, column, at.row, head, 0);
        stores_commit();
    }

    /// Gate, up, half of silu(gate) up, which takes up's place, the other half; of 64 columns.
    template <int kChunk>
    __device__ __forceinline__ void forward_chunk() {
        constexpr int kHalf = kChunk / 4, kPart = kChunk % 4;
        uint32_t *const gate = made + kHalf * 16, *const up = made + kTiles + kHalf * 16;
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
    /// Calls run(column, row) with where chunk `chunk`, counted from the tile `at`, lies, unless it is after
    /// the last.
    template <typename Run>
    __device__ __forceinline__ void visit(int chunk, const Place& next, const Run& run) const {
        if (chunk < kChunks)
            run(at.column + chunk * 32, at.row);
        else if (!over)
            run(next.column + (chunk - kChunks) * 32, next.row);
    }
    /// Starts to fetch a chunk's gate (0) or up (1); both count as what loaded() expects. Lane 0.
    __device__ __forceinline__ void fetch(int chunk, const Place& next, int half) const {
        visit(chunk, next, [&](int column, int row) {
            copy_box(buffer(chunk % 2) + half * kHalfBytes, p.gu_in, loaded(chunk), column, row, half, 0);
        });
    }
    __device__ __forceinline__ void expect(int chunk) const {
        if (chunk < kChunks || !over) mbarrier_expect(loaded(chunk), kBufferBytes);
    }

    /// The gradients of 32 columns, in place of gate and up.
    template <int kChunk>
    __device__ __forceinline__ void backward_chunk() {
        const SharedAddress gates = buffer(kChunk % 2), ups = gates + kHalfBytes;
        mbarrier_sleep(loaded(kChunk), kChunk / 2 % 2);
#pragma unroll
        for (int t = 0; t < 4; t += 2) {
            uint32_t gate[4], up[4];
            load_matrices(gate, place<64>(gates, t));
            load_matrices(up, place<64>(ups, t));
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                uint32_t& d = made[kChunk * 8 + 2 * t + i];
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
            store_matrices(place<64>(gates, t), gate);
            store_matrices(place<64>(ups, t), up);
        }
        shared_written();
        __syncwarp();
        if (lane != 0) return;
        if (there) {
            store_box(p.gu, gates, at.column + kChunk * 32, at.row, 0, 0);
            store_box(p.gu, ups, at.column + kChunk * 32, at.row, 1, 0);
        }
        stores_commit();
    }
    /// When they have left: up and gate of the chunk after next, or first what forward gave in gate's place.
    template <int kChunk>
    __device__ __forceinline__ void left(const Place& next) const {
        if (lane == 0) {
            stores_read<0>();
            expect(kChunk + 2);
            fetch(kChunk + 2, next, 1);
            if constexpr (!kWritesOut) fetch(kChunk + 2, next, 0);
        }
        if constexpr (kWritesOut) {
            __syncwarp();
            put<64>(buffer(kChunk % 2), made + kChunk * 8);
            shared_written();
            __syncwarp();
            if (lane != 0) return;
            if (there) store_box(p.out, buffer(kChunk % 2), at.column + kChunk * 32, at.row, 0, 0);
            stores_commit();
        }
    }
    /// When that has left: the gate.
    template <int kChunk>
    __device__ __forceinline__ void out_left(const Place& next) const {
        if (lane != 0) return;
        stores_read<0>();
        fetch(kChunk + 2, next, 0);
    }

    __device__ void run() {
        GatedWalk walk{p.order};
        const auto next = [&](Place& mine) {
            const bool found = walk.next(mine, kForward ? kTileColumns / 2 : kTileColumns);
            mine.row += group * kGroupRows + warp * 16;
            return found;
        };
        Place mine;
        bool more = next(mine);
        // Before the first tile there is none: its chunks are worked on as if it were, but nothing leaves.
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
        unrolled<kSpread>([&]<int kStep>() __attribute__((always_inline)) { beside<kStep>(at); });
        if (lane == 0) stores_done();
    }
};

#endif  // PASTUR_HOPPER

template <bool kForward, bool kWritesOut>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(kThreads, 1)
    linear_swiglu_kernel(const __grid_constant__ GatedParams p) {
#if defined(PASTUR_HOPPER)
    const GatedShared shared;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            mbarrier_init(shared.full[stage], 1);
            mbarrier_init(shared.empty[stage], 2 * kConsumingWarps);
        }
        for (int i = 0; i < 2 * kConsumingWarps; ++i) mbarrier_init(shared.loaded[i], 1);
        mbarrier_init_done();
    }
    cluster_sync();
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (warpgroup == 0) {
        give_registers<Registers<kConsumers>::kProducer>();
        if (threadIdx.x == 0) produce<kForward>(p, shared);
        __syncwarp();
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        GatedConsumer<kForward, kWritesOut> consumer{p, shared, warpgroup - 1,
                                                     static_cast<int>(threadIdx.x) / 32 % 4,
                                                     static_cast<int>(threadIdx.x) % 32};
        consumer.run();
    }
    cluster_sync();  // nobody leaves while the other block may still write here or arrive
#endif
}

template <bool kForward, bool kWritesOut>
void launch_tiles(CudaContext& ctx, GatedParams& p, int64_t tokens, int64_t ffn, int64_t k) {
    p.steps = static_cast<int>(ceil_div(k, kStageColumns));
    p.order = {static_cast<int>(ceil_div(tokens, 2 * kTileRows)),
               static_cast<int>(ceil_div(ffn, kForward ? kTileColumns / 2 : kTileColumns))};
    const int clusters = std::min(ctx.handles().properties.multiProcessorCount / 2, p.order.total());
    launch(ctx, 2 * clusters, kThreads, GatedShared::kBytes, linear_swiglu_kernel<kForward, kWritesOut>, p);
}

/// [N, 2F] as gate and up, in boxes.
CUtensorMap gate_up_map(const ConstTensor& gu, int box_rows, int box_columns) {
    const int64_t ffn = gu.size(1) / 2;
    return tensor_map({device_data<bf16>(gu), ffn, gu.size(0), 2 * ffn, 2, ffn}, box_rows, box_columns);
}
CUtensorMap matrix_map(const ConstTensor& matrix, int box_rows, int box_columns) {
    return tensor_map({device_data<bf16>(matrix), matrix.size(1), matrix.size(0), matrix.stride(0)}, box_rows,
                      box_columns);
}

}  // namespace
}  // namespace gated

bool has_linear_swiglu(CudaContext& ctx, DType dtype) {
    return dtype == DType::kBF16 && has_tensor_copies(ctx);
}

bool has_linear_swiglu(CudaContext& ctx, const ConstTensor& x, const ConstTensor& w, const ConstTensor& gu) {
    using namespace gated;
    // Fewer steps of k than the chunks before are spread over would need another loop; models that narrow
    // gain little.
    static_assert(kFewestGatedColumns == (kSpread - 1) * kStageColumns + 1);
    return has_linear_swiglu(ctx, x.dtype()) && x.size(0) > 0 &&
           linear_swiglu_takes(x.size(1), gu.size(1) / 2) && allows_vectors(x) && allows_vectors(w) &&
           allows_vectors(gu);
}

void linear_swiglu_forward(CudaContext& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w) {
    using namespace gated;
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
    using namespace gated;
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
