// A linear layer and the rotation of its first outputs in one kernel on Hopper. A tile goes its way beside
// the next one's products, so that what happens to it costs little: 32,768 x 2,048 x 6,144 take 1.19 ms and
// with a rotation 1.20, where cuBLASLt's product takes 1.23 and a pass that rotates 0.09 (H200, at its power
// limit). Tried without gain: a residual that the products are added to. Alone the kernel took 5 to 13 % less
// than cuBLASLt at 65,536 x 768 x 768 and x 2,048, a step of a 130m model as long or 0.3 % longer.
#include "kernels/linear_rope.h"

#include "kernels/cuda/linear/linear_hopper.cuh"

namespace pastur {
namespace linear {
namespace {

/// b: [outputs, K].
struct RotatedParams : ProductParams {
    CUtensorMap y;       ///< [tokens, outputs], in boxes of a warp's rows of 64 columns
    const float* table;  ///< [>= sequence, columns of a head]: cosines, then sines
    int sequence;        ///< rows n have position n % sequence
    int rotated;         ///< of the columns, the first
};

#if defined(PASTUR_HOPPER)

/// For heads of kHead columns, 64 or 128.
template <int kHead>
struct RotatedConsumer : ProductConsumer<false> {
    static constexpr int kHeadTiles = kHead / 8, kPairs = kHeadTiles / 2;  ///< of 8 columns
    static constexpr int kParts = kTileColumns / 64;
    static_assert(kPairs + kParts <= kSpread);

    const RotatedParams& p;
    /// Of this lane's two rows: where their angles begin, and those of the next columns to be rotated.
    const float* angles[2] = {};
    float2 cosine[2], sine[2];

    __device__ RotatedConsumer(const ProductConsumer<false>& base, const RotatedParams& params)
        : ProductConsumer<false>(base), p(params) {}

    __device__ __forceinline__ void tile(const Place& next) {
        float acc[kTiles][4];
        multiply(
            acc, [&]<int kStep>() __attribute__((always_inline)) { beside<kStep>(); });
        round(acc, next);
#pragma unroll
        for (int half = 0; half < 2; ++half)
            angles[half] = p.table + (at.row + lane / 4 + half * 8) % p.sequence * kHead + lane % 4 * 2;
        request(0);
    }

    /// The angles of columns 8 n .. of a head, for their partners half a head further, too.
    __device__ __forceinline__ void request(int n) {
        if (at.column >= p.rotated) return;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            cosine[half] = *reinterpret_cast<const float2*>(angles[half] + n * 8);
            sine[half] = *reinterpret_cast<const float2*>(angles[half] + n * 8 + kHead / 2);
        }
    }
    /// Rotates those of the tile's heads.
    template <int kColumns>
    __device__ __forceinline__ void rotate() {
#pragma unroll
        for (int head = 0; head < kTileColumns / kHead; ++head) {
            if (at.column + head * kHead >= p.rotated) break;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                uint32_t& first = made[2 * (head * kHeadTiles + kColumns) + half];
                uint32_t& second = made[2 * (head * kHeadTiles + kColumns + kPairs) + half];
                const float x = low(first), y = high(first), u = low(second), v = high(second);
                const float2 c = cosine[half], s = sine[half];
                first = pack_bf16(x * c.x - u * s.x, y * c.y - v * s.y);
                second = pack_bf16(u * c.x + x * s.x, v * c.y + y * s.y);
            }
        }
        if constexpr (kColumns + 1 < kPairs) request(kColumns + 1);
    }

    /// Of the last tile: first all rotations, then its parts one after the other.
    template <int kStep>
    __device__ __forceinline__ void beside() {
        constexpr int kEvery = (kSpread - kPairs) / kParts;
        if constexpr (kStep < kPairs)
            rotate<kStep>();
        else if constexpr ((kStep - kPairs) % kEvery == 0)
            leave<(kStep - kPairs) / kEvery>();
    }
    template <int kPart>
    __device__ __forceinline__ void leave() const {
        send(p.y, made + kPart * 16, kPart % 2, at.column + kPart * 64, 0);
    }

    __device__ void run() {
        ProductWalk walk{p.order};
        Place mine;
        at.column = p.rotated;  // of the tile that is not there
        while (next_of(walk, mine, kTileColumns)) tile(mine);
        unrolled<kSpread>([&]<int kStep>() __attribute__((always_inline)) { beside<kStep>(); });
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
