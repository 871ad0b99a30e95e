// Linear layers forward on Hopper: y = x W^T, to which a residual may be added before the one rounding, or of
// whose columns the first are heads that are rotated. A tile goes its way beside the next one's products, so
// that what happens to it costs little: 16,384 x 2,048 x 6,144 take 1.19 ms and with a rotation 1.20, where
// cuBLASLt's product takes 1.23 and a pass that rotates 0.09 (H200, at its power limit).
#include "kernels/cuda/linear_hopper.h"

#include "kernels/cuda/linear_hopper.cuh"
#include "kernels/linear_rope.h"

namespace pastur {
namespace linear {
namespace {

inline constexpr int kHead = 64;  ///< columns of heads that are rotated

/// b: [outputs, K].
struct LinearParams : ProductParams {
    CUtensorMap residual;  ///< [tokens, outputs], in boxes of kGroupRows rows of 64 columns
    CUtensorMap y;         ///< likewise, of a warp's rows
    const float* table;    ///< [>= sequence, kHead]: cosines, then sines
    int sequence;          ///< rows n have position n % sequence
    int rotated;           ///< of the columns, the first
};

enum class Extra { kResidual, kRotation };

#if defined(PASTUR_HOPPER)

template <Extra kExtra>
struct LinearConsumer : ProductConsumer<false> {
    const LinearParams& p;
    /// Of this lane's two rows: where their angles begin, and those of the next columns to be rotated.
    const float* angles[2] = {};
    float2 cosine[2], sine[2];

    __device__ LinearConsumer(const ProductConsumer& base, const LinearParams& params)
        : ProductConsumer(base), p(params) {}

    __device__ __forceinline__ void tile(const Place& next) {
        float acc[kTiles][4];
        if constexpr (kExtra == Extra::kResidual) take_residual(acc);
        multiply(
            acc,
            kExtra == Extra::kResidual, [&]<int kStep>() __attribute__((always_inline)) { beside<kStep>(); });
        round(acc, next);
        if constexpr (kExtra == Extra::kRotation) {
#pragma unroll
            for (int half = 0; half < 2; ++half)
                angles[half] = p.table + (at.row + lane / 4 + half * 8) % p.sequence * kHead + lane % 4 * 2;
            request(0);
        }
    }

    /// What the products are added to: each warpgroup's 64 rows come as a stage of their own.
    __device__ __forceinline__ void take_residual(float (&acc)[kTiles][4]) {
        Ring<kStages> mine = ring;
        if (group == 1) mine.advance();
        mbarrier_sleep(shared.full[mine.stage], mine.parity);
        const SharedAddress rows = shared.stage(mine.stage) + warp * 16 * 128;
#pragma unroll
        for (int t = 0; t < kTiles; t += 2) {
            uint32_t pairs[4];
            load_matrices(pairs, place<128>(rows + t / 8 * kPartBytes, t % 8));
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                acc[t + i / 2][i % 2 * 2] = low(pairs[i]);
                acc[t + i / 2][i % 2 * 2 + 1] = high(pairs[i]);
            }
        }
        for (int part = 0; part < kConsumers; ++part) {
            release(ring.stage);
            ring.advance();
        }
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
                uint32_t& first = made[2 * (head * 8 + kColumns) + half];
                uint32_t& second = made[2 * (head * 8 + kColumns + 4) + half];
                const float x = low(first), y = high(first), u = low(second), v = high(second);
                const float2 c = cosine[half], s = sine[half];
                first = pack_bf16(x * c.x - u * s.x, y * c.y - v * s.y);
                second = pack_bf16(u * c.x + x * s.x, v * c.y + y * s.y);
            }
        }
        if constexpr (kColumns < 3) request(kColumns + 1);
    }

    /// Of the last tile: first all rotations, then its four parts one after the other.
    template <int kStep>
    __device__ __forceinline__ void beside() {
        if constexpr (kExtra == Extra::kRotation) {
            if constexpr (kStep < 4)
                rotate<kStep>();
            else if constexpr (kStep % 2 == 0)
                leave<kStep / 2 - 2>();
        } else if constexpr (kStep % 3 == 0) {
            leave<kStep / 3>();
        }
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

template <Extra kExtra>
__device__ __forceinline__ void produce_linear(const LinearParams& p, const ProductShared& shared) {
    const int rank = cluster_rank();
    const auto copy_b = [&](SharedAddress to, SharedAddress barrier, int k, const Place& tile)
        __attribute__((always_inline)) {
        copy_box_to_both(to + rank * (kBBytes / 2), p.b, barrier, k, tile.column + rank * (kTileColumns / 2),
                         0, 0);
    };
    const auto before = [&](const Place& tile, Ring<kStages>& ring) __attribute__((always_inline)) {
        if constexpr (kExtra == Extra::kResidual) {
            for (int group = 0; group < kConsumers; ++group, ring.advance()) {
                mbarrier_sleep(shared.empty[ring.stage], ring.parity ^ 1);
                mbarrier_expect(shared.full[ring.stage], kGroupRows * kTileColumns * 2);
                for (int part = 0; part < kTileColumns / 64; ++part)
                    copy_box(shared.stage(ring.stage) + part * kPartBytes, p.residual,
                             shared.full[ring.stage], tile.column + part * 64, tile.row + group * kGroupRows,
                             0, 0);
            }
        }
    };
    produce(p, shared, kTileColumns, copy_b, before);
}

#endif  // PASTUR_HOPPER

template <Extra kExtra>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(kThreads, 1)
    linear_kernel(const __grid_constant__ LinearParams p) {
#if defined(PASTUR_HOPPER)
    const ProductShared shared;
    start_product_barriers(shared);
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (warpgroup == 0) {
        give_registers<Registers<kConsumers>::kProducer>();
        if (threadIdx.x == 0) produce_linear<kExtra>(p, shared);
        __syncwarp();
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        LinearConsumer<kExtra> consumer(
            {shared, p.steps, warpgroup - 1, static_cast<int>(threadIdx.x) / 32 % 4,
             static_cast<int>(threadIdx.x) % 32},
            p);
        consumer.run();
    }
    cluster_sync();  // nobody leaves while the other block may still write here or arrive
#endif
}

/// cuBLASLt adds a residual at the end of each tile, which costs a fifth of a product whose k is 768, and
/// nothing to speak of from here on.
inline constexpr int64_t kMostColumns = 4096;

/// Whether there are kernels for these at all.
bool takes(CudaContext& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w) {
    return x.dtype() == DType::kBF16 && has_tensor_copies(ctx) && x.size(0) > 0 &&
           x.size(1) >= kFewestColumns && allows_vectors(x) && allows_vectors(w) && allows_vectors(y);
}
/// Whether most of the columns that its tiles multiply are there.
bool fills_tiles(int64_t outputs) {
    return outputs * 100 >= ceil_div(outputs, kTileColumns) * kTileColumns * 95;
}

LinearParams params_of(CudaContext& ctx, const Tensor& y, const ConstTensor& x, const ConstTensor& w,
                       int& clusters) {
    LinearParams p{};
    p.a = matrix_map(x, kTileRows, kStageColumns);
    p.b = matrix_map(w, kTileColumns / 2, kStageColumns);
    p.y = matrix_map(y, 16, 64);
    p.steps = static_cast<int>(ceil_div(x.size(1), kStageColumns));
    clusters = product_clusters(ctx, p.order, y.size(0), y.size(1), kTileColumns);
    return p;
}

}  // namespace
}  // namespace linear

bool linear_residual_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual) {
    using namespace linear;
    if (x.size(1) >= kMostColumns || !takes(ctx, y, x, w) || !allows_vectors(residual) ||
        !fills_tiles(w.size(0)))
        return false;
    int clusters = 0;
    LinearParams p = params_of(ctx, y, x, w, clusters);
    p.residual = matrix_map(residual, kGroupRows, 64);
    launch(ctx, 2 * clusters, kThreads, ProductShared::kBytes, linear_kernel<Extra::kResidual>, p);
    return true;
}

bool has_linear_rope(CudaContext& ctx, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w,
                     const HeadRotation& rotation) {
    using namespace linear;
    return rotation.table.size(1) == kHead && allows_vectors(rotation.table) && takes(ctx, y, x, w) &&
           fills_tiles(w.size(0));
}

void linear_rope_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w,
                         const HeadRotation& rotation) {
    using namespace linear;
    int clusters = 0;
    LinearParams p = params_of(ctx, y, x, w, clusters);
    p.table = device_data<float>(rotation.table);
    p.sequence = static_cast<int>(rotation.sequence);
    p.rotated = static_cast<int>(rotation.heads * kHead);
    launch(ctx, 2 * clusters, kThreads, ProductShared::kBytes, linear_kernel<Extra::kRotation>, p);
}

}  // namespace pastur
