#pragma once
// Order of work and shared memory of wgmma/streaming_forward.cu.
#include <algorithm>

#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/ring.cuh"
#include "kernels/cuda/attention/tensor_maps.cuh"
#include "kernels/cuda/attention/tile_order.h"
#include "kernels/cuda/attention/wgmma/tiles.cuh"
#include "kernels/cuda/launch.cuh"

namespace pastur::attention::wgmma_streaming {

/// One tile of kRows queries, and the key tiles [begin, steps) of kKeys keys that it sees. `first` may lie before
/// token 0 and the tile's end after the last token; such rows are skipped.
template <int kRows, int kKeys, Mask kMask>
struct QueryTile {
    int batch, head, first, begin, steps;

    /// end: where the last tile's rows end.
    __device__ QueryTile(const TileOrder& order, const ForwardParams<bf16>& p, int end, int index) {
        const Sizes& sizes = p.sizes;
        int pair, rank;  // rank 0: the longest tile
        grouped_at(index, order.pairs, order.tiles, order.group, pair, rank);
        batch = pair / sizes.heads;
        head = pair % sizes.heads;
        first = end - (rank + 1) * kRows;
        begin = begin_of(p, batch, max(first, 0));
        steps = steps_of(first + kRows, sizes.tokens);
    }
    /// The first key tile that a query and later ones see.
    __device__ static int begin_of(const ForwardParams<bf16>& p, int batch, int query) {
        if constexpr (kMask == Mask::kDocuments)
            return first_key_of(p.documents, p.sizes.tokens, batch, query) / kKeys;
        else
            return 0;
    }
    __device__ static int steps_of(int end, int tokens) { return (min(end, tokens) + kKeys - 1) / kKeys; }
};

/// Hands out a launch's tiles one by one, so CTAs that finish early take more of them. Two numbers in memory,
/// 0 between launches: tiles taken beyond each CTA's first, and CTAs that are done.
struct TileCounter {
    int* numbers;

    __device__ int take() const { return static_cast<int>(gridDim.x) + atomicAdd(numbers, 1); }
    /// Once per CTA, after its last take.
    __device__ void leave() const {
        if (atomicAdd(numbers + 1, 1) + 1 < static_cast<int>(gridDim.x)) return;
        numbers[0] = 0;
        numbers[1] = 0;
    }
};

struct ForwardKernelParams {
    TensorMaps maps;
    ForwardParams<bf16> attention;
    TileOrder order;
    int end;  ///< where the last tile's rows end
    TileCounter counter;
};

/// Bytes of L2 for the keys and values of the heads that are under way at a time. L2 holds 50 MB; 16 MB
/// measured 1 % faster than 32.
inline constexpr int64_t kCachedBytes = int64_t{16} << 20;

/// Tiles of a CTA of kConsumers_ consumer warpgroups: three where accumulators leave registers for it, else
/// two.
template <typename Widths, int kConsumers_>
struct ForwardTiles {
    static constexpr int kConsumers = kConsumers_;
    static constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
    static constexpr int kRows = kConsumers * kGroupRows;
    static constexpr int kKeys = 128;
    static constexpr int kStages = Widths::kQk > 96 ? 2 : 3;
    /// With enough registers queries are held as operand A in registers, and their shared memory is free for
    /// the next tile's queries at once.
    static constexpr bool keeps_queries() { return kConsumers == 2; }
    using Q = typename Widths::template Query<kRows>;
    using K = typename Widths::template Key<kKeys>;
    using V = typename Widths::template Value<kKeys>;

    static constexpr int kKeyAt = Q::kBytes;
    static constexpr int kValueAt = kKeyAt + kStages * K::kBytes;
    /// Bytes of an output row in shared memory; 0: outputs are stored from registers.
    static constexpr int kPitch = Widths::kQk > 128 ? 0 : Widths::kV * 2 + 16;
    static constexpr int kOutAt = kValueAt + kStages * V::kBytes;
    static constexpr int kBarriersAt = kOutAt + kRows * kPitch;
    static constexpr int kSharedBytes = kBarriersAt + (2 + 4 * kStages) * 8 + 16 + kSharedAlignment;
    static_assert(kSharedBytes <= kHopperSharedBytes);
};

/// Addresses of a CTA's shared memory.
template <typename Tiles>
struct ForwardShared {
    SharedAddress base = shared_base();
    Barriers q_full{base + Tiles::kBarriersAt}, q_empty{q_full[1]};
    Barriers k_full{q_full[2]}, k_empty{k_full[Tiles::kStages]};
    Barriers v_full{k_empty[Tiles::kStages]}, v_empty{v_full[Tiles::kStages]};

    /// The tile whose queries q holds; valid after q_full.
    __device__ volatile int& index() const { return shared_number(v_empty[Tiles::kStages]); }
    __device__ SharedAddress q() const { return base; }
    __device__ SharedAddress k(int stage) const { return base + Tiles::kKeyAt + stage * Tiles::K::kBytes; }
    __device__ SharedAddress v(int stage) const { return base + Tiles::kValueAt + stage * Tiles::V::kBytes; }
};

template <typename Tiles, Mask kMask>
using ForwardTile = QueryTile<Tiles::kRows, Tiles::kKeys, kMask>;

/// Tiles of `rows` tokens of `heads` heads per sequence, in groups whose keys and values fit into
/// kCachedBytes.
inline TileOrder tile_order(const Sizes& sizes, int heads, int rows) {
    const int64_t bytes = int64_t{sizes.tokens} * (sizes.query_key() + sizes.value) * 2;
    const int pairs = sizes.batch * heads, tiles = static_cast<int>(ceil_div(sizes.tokens, rows));
    return {pairs, tiles, static_cast<int>(std::clamp<int64_t>(kCachedBytes / bytes, 1, pairs))};
}

inline unsigned persistent_blocks(CudaContext& ctx, const TileOrder& order) {
    return static_cast<unsigned>(std::min(ctx.handles().properties.multiProcessorCount, order.total()));
}

}  // namespace pastur::attention::wgmma_streaming
