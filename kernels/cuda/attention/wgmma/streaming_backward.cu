// Causal attention backward on Hopper, described in wgmma/streaming_backward.cuh: the kernel and its launch.
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/attention/wgmma/streaming.cuh"
#include "kernels/cuda/attention/wgmma/streaming_backward_copies.cuh"
#include "kernels/cuda/attention/wgmma/streaming_backward_keys.cuh"
#include "kernels/cuda/launch.cuh"

namespace pastur::attention::wgmma_streaming {
namespace {

/// dk = and dv =, summed over the heads of the group in order and over the queries upwards from the diagonal;
/// dq =; and row_stats = on the way.
template <int kContent, int kShared, int kValue, Mask kMask>
__global__ void __launch_bounds__(kThreads, 1)
    attention_wgmma_streaming_backward_kernel(const __grid_constant__ BackwardKernelParams p) {
#if defined(PASTUR_HOPPER)
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = BackwardTiles<Widths>;
    BackwardShared<Tiles> shared;
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (threadIdx.x == 0) shared.start();
    __syncthreads();
    if (warpgroup == 0) {
        give_registers<Tiles::kHelperRegisters>();
        if (threadIdx.x == 0) produce<kMask>(p, shared);
        if (threadIdx.x > 0 && threadIdx.x % 32 == 0)
            send_pieces<kMask>(p, shared, static_cast<int>(threadIdx.x) / 32 - 1);
    } else {
        take_registers<Tiles::kConsumerRegisters>();
        BackwardConsumer<Tiles> consumer{shared, warpgroup - 1, static_cast<int>(threadIdx.x) / 32 % 4,
                                         static_cast<int>(threadIdx.x) % 32};
        consumer.turns.start();
        KeyGradients<Widths, kMask> gradients{shared, p, consumer};
        for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
            mbarrier_sleep(shared.rows_full[rows.stage], rows.parity);
            const int index = shared.index(rows.stage);
            if (index >= backward_items(p.order, p.distances)) break;
            const BackwardItem item(p.order, p.distances, index);
            const int row = item.tile * kRows + consumer.group * kGroupRows + consumer.warp * 16;
            const SharedAddress rows_empty = shared.rows_empty[rows.stage];
            shared.select_rows(rows.stage);
            gradients.start();
            if (p.order.has(item.keys))
                gradients.add_steps(KeyTile<Tiles, kMask>(p, item.keys, item.tile), row);
            if (p.attention.rope_table)
                gradients.template finish<true>(item, row, rows_empty);
            else
                gradients.template finish<false>(item, row, rows_empty);
            if (p.order.has(item.stats)) leave_stats(consumer, p, QueryTiles(p, item.stats, item.stats_tile));
        }
        if constexpr (Tiles::kStagesOut) rows_have_left(consumer.lane);
    }
#endif
}

template <int kContent, int kShared, int kValue, Mask kMask>
void launch_backward_kernel(CudaContext& ctx, const BackwardParams<bf16>& params) {
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = BackwardTiles<Widths>;
    const Sizes& sizes = params.sizes;
    BackwardKernelParams p{};
    p.attention = params;
    p.padded_tokens = padded_tokens(sizes.tokens);
    query_maps<Widths>(p.maps.q, params.q, sizes, Tiles::kCols);
    p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, Tiles::kCols);
    p.out[0] = value_map(params.out, sizes, sizes.heads, Tiles::kCols);
    key_maps(p.maps.k, params.k, params.k_shared, sizes, kRows);
    p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, kRows);
    if constexpr (Tiles::kStagesOut) {
        query_maps<Widths>(p.dq, read_only(params.dq), sizes, 16);
        p.dk[0] = gradient_map(params.dk, kContent, sizes, sizes.kv_heads);
        p.dk[1] = kShared > 0 ? gradient_map(params.dk_shared, kShared, sizes, sizes.kv_heads) : p.dk[0];
        p.dv[0] = gradient_map(params.dv, kValue, sizes, sizes.kv_heads);
    }
    const int pairs = sizes.batch * sizes.kv_heads, tiles = static_cast<int>(ceil_div(sizes.tokens, kRows));
    const int blocks = std::min(ctx.handles().properties.multiProcessorCount, pairs * tiles);
    p.order = backward_order(pairs, tiles, blocks, Tiles::kGroupItems);
    p.distances = backward_distances(p.order, blocks, Tiles::kBehindItems);
    const int64_t counters = scratch(ctx, sizes).dq_counters;
    p.turns = params.dq_counters;
    p.next = params.dq_counters + counters - 1;
    p.ready = p.next - pairs;
    CUDA_CHECK(cudaMemsetAsync(params.dq_counters, 0, static_cast<size_t>(counters) * sizeof(int),
                               ctx.handles().stream));
    launch(ctx, static_cast<unsigned>(blocks), kThreads, Tiles::kSharedBytes,
           attention_wgmma_streaming_backward_kernel<kContent, kShared, kValue, kMask>, p);
}

}  // namespace

BackwardScratch scratch(CudaContext&, const Sizes& sizes) {
    const int64_t tiles = int64_t{sizes.batch} * sizes.heads * (padded_tokens(sizes.tokens) / kGroupRows);
    return {.row_stats = tiles * kGroupRows,
            .dq_sums = tiles * kGroupRows * sizes.query_key(),
            .dq_counters = tiles * kConsumers + int64_t{sizes.batch} * sizes.kv_heads + 1,
            .key_parts = sizes.kv_heads};
}

void backward(CudaContext& ctx, const BackwardParams<bf16>& params) {
    visit_widths(params.sizes, [&]<int kContent, int kShared, int kValue>() {
        visit_mask(params.sizes, params.documents, [&]<Mask kMask>() {
            if constexpr (kMask != Mask::kStride || takes_stride(kContent, kShared))
                launch_backward_kernel<kContent, kShared, kValue, kMask>(ctx, params);
        });
    });
}

}  // namespace pastur::attention::wgmma_streaming
