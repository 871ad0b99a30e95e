// Fused GEMM+RoPE on Hopper: a linear layer whose first outputs are rotated. The epilogue of a tile overlaps
// with the accumulation of the next one and costs little: a GEMM of 32,768 x 2,048 x 6,144 takes 1.19 ms and
// with the rotation 1.20 ms, where cuBLASLt takes 1.23 ms and a separate rotation 0.09 ms (H200, at its power
// limit). Tried without gain: an added residual. That kernel alone took 5 to 13 % less time than cuBLASLt at
// 65,536 x 768 x 768 and 65,536 x 768 x 2,048, but a step of a 130m model took as long or 0.3 % longer.
#include "kernels/attention/linear_rope.h"

#include "kernels/cuda/linear/linear_hopper.cuh"

namespace pastur {
namespace linear {
namespace {

/// Here b is [outputs, K].
struct RotatedParams : ProductParams {
    CUtensorMap y;       ///< [tokens, outputs], in boxes of a warp's 16 rows by 64 columns
    const float* table;  ///< [>= sequence, columns of a head]: cosines, then sines
    int sequence;        ///< row n is at position n % sequence
    int rotated;         ///< number of columns to rotate, from the first on
};

#if defined(PASTUR_HOPPER)

/// Consumer for heads of kHead columns, 64 or 128.
template <int kHead>
struct RotatedConsumer : ProductConsumer<false> {
    static constexpr int kHeadTiles = kHead / 8, kPairs = kHeadTiles / 2;  ///< tiles of 8 columns
    static constexpr int kParts = kTileColumns / 64;
    static_assert(kPairs + kParts <= kSpread);

    const RotatedParams& p;
    /// For each of this lane's two rows: the address of its angles, and the angles of the next columns to
    /// rotate.
    const float* angles[2] = {};
    float2 cosine[2], sine[2];

    __device__ RotatedConsumer(const ProductConsumer<false>& base, const RotatedParams& params)
        : ProductConsumer<false>(base), p(params) {}

    __device__ __forceinline__ void tile(const Place& next) {
        float acc[kTiles][4];
        multiply(
            acc, [&]<int kStep>() __attribute__((always_inline)) { epilogue_step<kStep>(); });
        round(acc, next);
#pragma unroll
        for (int half = 0; half < 2; ++half)
            angles[half] = p.table + (at.row + lane / 4 + half * 8) % p.sequence * kHead + lane % 4 * 2;
        request(0);
    }

    /// Loads the angles of columns 8 n to 8 n + 7 of a head, which also serve their partners half a head
    /// further.
    __device__ __forceinline__ void request(int n) {
        if (at.column >= p.rotated) return;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            cosine[half] = *reinterpret_cast<const float2*>(angles[half] + n * 8);
            sine[half] = *reinterpret_cast<const float2*>(angles[half] + n * 8 + kHead / 2);
        }
    }
    /// Rotates tile kColumns of 8 columns, with its partner, in each head of the tile.
    template <int kColumns>
    __device__ __forceinline__ void rotate() {
#pragma unroll
        for (int head = 0; head < kTileColumns / kHead; ++head) {
            if (at.column + head * kHead >= p.rotated) break;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                uint32_t& first = rounded[2 * (head * kHeadTiles + kColumns) + half];
                uint32_t& second = rounded[2 * (head * kHeadTiles + kColumns + kPairs) + half];
                const float x = low(first), y = high(first), u = low(second), v = high(second);
                const float2 c = cosine[half], s = sine[half];
                first = pack_bf16(x * c.x - u * s.x, y * c.y - v * s.y);
                second = pack_bf16(u * c.x + x * s.x, v * c.y + y * s.y);
            }
        }
        if constexpr (kColumns + 1 < kPairs) request(kColumns + 1);
    }

    /// One step of the previous tile's epilogue: first all rotations, then the stores of its parts.
    template <int kStep>
    __device__ __forceinline__ void epilogue_step() {
        constexpr int kEvery = (kSpread - kPairs) / kParts;
        if constexpr (kStep < kPairs)
            rotate<kStep>();
        else if constexpr ((kStep - kPairs) % kEvery == 0)
            store_part<(kStep - kPairs) / kEvery>();
    }
    template <int kPart>
    __device__ __forceinline__ void store_part() const {
        send(p.y, rounded + kPart * 16, kPart % 2, at.column + kPart * 64, 0);
    }

    __device__ void run() {
        ProductWalk walk{p.order};
        Place mine;
        at.column = p.rotated;  // there is no previous tile: nothing is rotated
        while (next_of(walk, mine, kTileColumns)) tile(mine);
        unrolled<kSpread>([&]<int kStep>() __attribute__((always_inline)) { epilogue_step<kStep>(); });
        if (lane == 0) stores_done();
    }
};

#endif  // PASTUR_HOPPER

template <int kHead>
__global__ void PASTUR_PAIRS_OF_BLOCKS __launch_bounds__(kThreads, 1)
    linear_rope_kernel(const __grid_constant__ RotatedParams p) {
#if defined(PASTUR_HOPPER)
    run_products<RotatedConsumer<kHead>>(
        p, [&](const ProductShared& shared) __attribute__((always_inline)) {
            const int half = cluster_rank() * (kTileColumns / 2);
            const auto copy_b = [&](SharedAddress to, SharedAddress barrier, int k, const Place& tile)
                __attribute__((always_inline)) {
                copy_box_to_both(to + half * kStageColumns * 2, p.b, barrier, k, tile.column + half, 0, 0);
            };
            produce(p, shared, kTileColumns, copy_b);
        });
#endif
}

}  // namespace
}  // namespace linear

bool has_linear_rope(CudaContext& ctx, DType dtype) {
    return dtype == DType::kBF16 && has_tensor_copies(ctx);
}

bool has_linear_rope(CudaContext& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w,
                     const HeadRotation& rotation) {
    static_assert(linear::kFewestColumns == kFewestRotatingColumns && linear::kTileColumns == kRotatingTile);
    return has_linear_rope(ctx, x.dtype()) && x.size(0) > 0 &&
           linear_rope_takes(x.size(1), w.size(0), rotation.table.size(1)) && allows_vectors(x) &&
           allows_vectors(w) && allows_vectors(y) && allows_vectors(rotation.table);
}

void linear_rope_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w,
                         const HeadRotation& rotation) {
    using namespace linear;
    RotatedParams p{};
    p.a = matrix_map(x, kTileRows, kStageColumns);
    p.b = matrix_map(w, kTileColumns / 2, kStageColumns);
    p.y = matrix_map(y, 16, 64);
    p.steps = static_cast<int>(ceil_div(x.size(1), kStageColumns));
    p.table = device_data<float>(rotation.table);
    p.sequence = static_cast<int>(rotation.sequence);
    const int64_t width = rotation.table.size(1);
    p.rotated = static_cast<int>(rotation.heads * width);
    const int clusters = product_clusters(ctx, p.order, y.size(0), y.size(1), kTileColumns);
    launch(ctx, 2 * clusters, kThreads, ProductShared::kBytes,
           width == 64 ? linear_rope_kernel<64> : linear_rope_kernel<128>, p);
}

}  // namespace pastur
