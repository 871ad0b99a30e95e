// Attention backward on Hopper in one kernel (attention_hopper_backward_joint.cuh): the warpgroups that
// multiply, and the launches.
#include "kernels/cuda/attention_hopper_backward_joint.cuh"
#include "kernels/cuda/attention_hopper_maps.cuh"

namespace pastur {
namespace {

#if defined(PASTUR_HOPPER)

/// acc = this group's half of the columns of dS K, over the block's keys.
template <typename Widths, typename Tiles, int kTiles>
__device__ __forceinline__ void piece_product(float (&acc)[kTiles][4], SharedAddress scores,
                                              SharedAddress keys, int group) {
    using Keys = typename Tiles::RowsQk;
    constexpr int kWhole = Widths::kQk / 128;  // parts of 64 columns that are one group's
    constexpr int kPart = Keys::part(0).width * kRows * 2;
    static_assert(kTiles == Tiles::kPieceColumns / 8 && kWhole <= 1);
    unrolled<kRows / 16>([&]<int kStep>() {
        const uint64_t a = Tiles::Scores::template by_columns<0, kStep * 16>(scores);
        if constexpr (kWhole > 0)
            product_of_columns<64>(
                acc, a,
                Keys::template by_columns<0, kStep * 16>(keys + group * (Widths::kQk / 64 - 1) * kPart),
                kStep > 0);
        if constexpr (Tiles::kPieceColumns % 64 == 32) {  // of the part between, or of the only one
            constexpr int kBetween = Keys::part(0).width == 64 ? kWhole : 0;
            const int offset = group * (Keys::part(0).width == 64 ? 64 : kPart);
            product_of_columns<32, kWhole * 8>(
                acc, a, Keys::template by_columns<kBetween, kStep * 16>(keys + offset), kStep > 0);
        }
    });
}

/// What to_fragments made of them, rounded.
template <int kTiles>
__device__ __forceinline__ void from_fragments(float (&acc)[kTiles][4],
                                               const uint32_t (&fragments)[kTiles / 2][4]) {
#pragma unroll
    for (int k = 0; k < kTiles / 2; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float(&pair)[4] = acc[2 * k + i / 2];
            pair[i % 2 * 2] = __uint_as_float(fragments[k][i] << 16);
            pair[i % 2 * 2 + 1] = __uint_as_float(fragments[k][i] & 0xffff0000u);
        }
    }
}

/// A consuming warpgroup at work on one block of keys: its gradients, and what a step needs.
template <typename Widths>
struct JointGradients {
    using Tiles = JointTiles<Widths>;
    static constexpr int kTiles = Tiles::kCols / 8;

    const JointShared<Tiles>& shared;
    const HopperBackwardParams& p;
    BackwardConsumer<Tiles>& consumer;
    int pieces = 0;  ///< handed over so far
    float s[kTiles][4], dp[kTiles][4], dq[Tiles::kPieceColumns / 8][4];
    float dk[Widths::kQk / 8][4], dv[Widths::kV / 8][4];
    uint32_t prob[kTiles / 2][4], ds[kTiles / 2][4];

    /// S becomes P; `row`: the warp's first key.
    __device__ __forceinline__ void probabilities(const KeyTile<Tiles>& tile, int step, int row) {
        products_done(s);
        const int query = tile.queries_at(step) * Tiles::kCols;
        probabilities_of_keys(s, stats(), p.attention.scale * kLog2E, query < tile.first + kRows,
                              query + consumer.lane % 4 * 2 - (row + consumer.lane / 4));
        to_fragments(prob, s);
    }
    /// dP becomes dS.
    __device__ __forceinline__ void score_gradients() {
        products_done(dp);
        score_gradients_by_key(dp, s, stats());
        to_fragments(ds, dp);
    }
    __device__ __forceinline__ SharedAddress stats() const {
        return shared.stats(consumer.done.stage) + consumer.lane % 4 * 16;
    }

    /// dq of the step before this one. At the first step nothing is there yet, and the result is left alone.
    __device__ __forceinline__ void query_product(int step) {
        piece_product<Widths, Tiles>(dq, shared.scores(step + 1), shared.rows_qk(), consumer.group);
        products_commit();
    }
    __device__ __forceinline__ void value_product(bool keep) {
        product_by_columns<typename Tiles::ColsV, Tiles::kCols / 16>(
            dv, prob, shared.cols_v(consumer.done.stage), keep);
    }
    __device__ __forceinline__ void key_product(bool keep) {
        product_by_columns<typename Tiles::ColsQk, Tiles::kCols / 16>(
            dk, ds, shared.cols_qk(consumer.done.stage), keep);
        products_commit();
    }
    /// Leaves dS^T to both groups' next turns.
    __device__ __forceinline__ void leave_scores(int step) {
        store_scores(shared.scores(step), ds, consumer.group * kGroupRows + consumer.warp * 16,
                     consumer.lane);
        shared_written();
    }
    __device__ __forceinline__ void finish_step() {
        products_done(dk);
        products_done(dv);
        consumer.release_stage();
    }

    /// Hands dq to the thread that sends it.
    __device__ __forceinline__ void hand_over() {
        const int group = consumer.group;
        // With one slot for both, the other group's last piece must have left it, otherwise this group's.
        if constexpr (Tiles::kSlots == 1)
            mbarrier_sleep(shared.piece_empty[1 - group], (pieces + 1 - group) & 1);
        else
            mbarrier_sleep(shared.piece_empty[group], (pieces + 1) & 1);
        const SharedAddress to = shared.piece(group) + static_cast<int>(threadIdx.x) % kWarpgroup * 16;
#pragma unroll
        for (int n = 0; n < Tiles::kPieceColumns / 8; ++n) store_shared_16(to + n * kWarpgroup * 16, dq[n]);
        shared_written();
        mbarrier_arrive(shared.full_at(group, pieces++));
    }

    /// The step to begin with. None of the first step's queries sees the second group's keys: there dS = 0.
    __device__ __forceinline__ int skip_masked(const KeyTile<Tiles>& tile) {
        if (consumer.group == 0 || tile.steps == 1) return 0;
        consumer.skip_stage();
        consumer.turns.wait();
#pragma unroll
        for (int k = 0; k < kTiles / 2; ++k) {
#pragma unroll
            for (int i = 0; i < 4; ++i) ds[k][i] = 0;
        }
        leave_scores(0);
        consumer.turns.pass();
        return 1;
    }

    /// Every step queues its products in one turn: dq of the step before, dv and dk; S and dP of the next
    /// step in the same turn where there are registers for it, otherwise when these are done.
    __device__ __forceinline__ void walk(const KeyTile<Tiles>& tile, int row, int first) {
        constexpr bool kAhead = run_ahead(Widths::kQk + Widths::kV, Tiles::kCols, 2);
        consumer.turns.wait();
        consumer.products(s, dp);
        consumer.turns.pass();
        for (int step = first;; ++step) {
            products_wait<1>();
            probabilities(tile, step, row);
            products_wait<0>();
            score_gradients();
            consumer.turns.wait();
            products_begin();
            query_product(step);
            value_product(step > first);
            key_product(step > first);
            leave_scores(step);
            products_wait<1>();
            products_done(dq);
            if (step > 0) hand_over();
            if (step + 1 == tile.steps) break;
            if constexpr (kAhead) consumer.products(s, dp);
            consumer.turns.pass();
            products_wait<(kAhead ? 2 : 0)>();
            consumer.release_stage();
            if constexpr (!kAhead) consumer.products(s, dp);
        }
        products_wait<0>();
        finish_step();
        consumer.turns.pass();
    }
    /// The same with fewer registers: S and dP, dk and dq one after the other, dv beside dP, and P for dS
    /// from its rounded form.
    __device__ __forceinline__ void walk_wide(const KeyTile<Tiles>& tile, int row, int first) {
        consumer.turns.wait();
        consumer.scores(s);
        consumer.turns.pass();
        for (int step = first;; ++step) {
            products_wait<0>();
            probabilities(tile, step, row);
            products_begin();
            consumer.score_gradients(dp);
            value_product(step > first);
            products_commit();
            products_wait<1>();
            from_fragments(s, prob);
            score_gradients();
            consumer.turns.wait();
            products_begin();
            key_product(step > first);
            leave_scores(step);
            products_wait<0>();
            finish_step();
            products_begin();
            query_product(step);
            products_wait<0>();
            products_done(dq);
            if (step > 0) hand_over();
            if (step + 1 == tile.steps) break;
            consumer.scores(s);
            consumer.turns.pass();
        }
        consumer.turns.pass();
    }

    __device__ __forceinline__ void run(const KeyTile<Tiles>& tile, SharedAddress rows_empty) {
        const AttentionSizes& sizes = p.attention.sizes;
        const int row = tile.first + consumer.group * kGroupRows + consumer.warp * 16;
        products_done(dk);
        products_done(dv);
        const int first = skip_masked(tile);
        if constexpr (Tiles::kWide)
            walk_wide(tile, row, first);
        else
            walk(tile, row, first);
        consumer.turns.wait();
        products_begin();
        query_product(tile.steps);
        products_wait<0>();
        products_done(dq);
        hand_over();
        consumer.turns.pass();
        release(rows_empty);
        if (p.attention.rope_table && p.attention.rotated_keys)
            rotate_rows_back<Widths::kRotaryTile, Widths::kRotaryPairs>(dk, p.attention.rope_table, row,
                                                                        sizes.tokens, consumer.lane);
        store_block(token_rows(p.attention.dk, sizes.content, p.attention.dk_shared, sizes.rotary, tile.batch,
                               tile.head),
                    dk, p.attention.scale, p.attention.scale, row, sizes.tokens, consumer.lane);
        store_block(token_rows(p.attention.dv, tile.batch, tile.head, sizes.value), dv, 1, 1, row,
                    sizes.tokens, consumer.lane);
    }
};

#endif  // PASTUR_HOPPER

/// dk = and dv =, over the queries of every head of the group, heads in order, queries upwards from the
/// diagonal; and the sums of dq.
template <int kContent, int kShared, int kValue>
__global__ void __launch_bounds__(kThreads, 1)
    attention_hopper_joint_kernel(const __grid_constant__ HopperBackwardParams p) {
#if defined(PASTUR_HOPPER)
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = JointTiles<Widths>;
    JointShared<Tiles> shared;
    const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
    if (threadIdx.x == 0) {
        for (int group = 0; group < kConsumers; ++group) {
            mbarrier_init(shared.full_at(group, 0), kWarpgroup);
            mbarrier_init(shared.full_at(group, 1), kWarpgroup);
            mbarrier_init(shared.piece_empty[group], 1);
        }
    }
    start_barriers(shared, kSenders);
    if (warpgroup == 0) {
        give_registers<Registers<kConsumers>::kProducer>();
        if (threadIdx.x == 0) produce(p, shared);
        if (threadIdx.x > 0 && threadIdx.x % 32 == 0)
            send_pieces(p, shared, static_cast<int>(threadIdx.x) / 32 - 1);
    } else {
        take_registers<Registers<kConsumers>::kConsumer>();
        BackwardConsumer<Tiles> consumer{shared, warpgroup - 1, static_cast<int>(threadIdx.x) / 32 % 4,
                                         static_cast<int>(threadIdx.x) % 32};
        consumer.turns.start();
        JointGradients<Widths> gradients{shared, p, consumer};
        for (Ring<Tiles::kRowStages> rows;; rows.advance()) {
            mbarrier_sleep(shared.rows_full[rows.stage], rows.parity);
            const int index = shared.index(rows.stage);
            if (index >= p.order.total()) break;
            shared.select_rows(rows.stage);
            gradients.run(joint_tile<Tiles>(p, index), shared.rows_empty[rows.stage]);
        }
    }
#endif
}

template <int kContent, int kShared, int kValue>
void launch_joint_kernels(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    using Widths = HeadWidths<kContent, kShared, kValue>;
    using Tiles = JointTiles<Widths>;
    const AttentionSizes& sizes = params.sizes;
    HopperBackwardParams p{};
    p.attention = params;
    p.padded_tokens = attention_padded_tokens(sizes.tokens);
    query_maps<Widths>(p.maps.q, params.q, sizes, Tiles::kCols);
    p.maps.dout[0] = value_map(params.dout, sizes, sizes.heads, Tiles::kCols);
    key_maps(p.maps.k, params.k, params.k_shared, sizes, kRows);
    p.maps.v[0] = value_map(params.v, sizes, sizes.kv_heads, kRows);
    p.order = tile_order(sizes, sizes.kv_heads, kRows);
    attention_hopper_begin_sums(ctx, p);
    launch(ctx, persistent_blocks(ctx, p.order), kThreads, Tiles::kSharedBytes,
           attention_hopper_joint_kernel<kContent, kShared, kValue>, p);
    attention_hopper_round_sums(ctx, p);
}

}  // namespace

void attention_hopper_joint_gradients(CudaContext& ctx, const AttentionBackwardParams<bf16>& params) {
    visit_joint_widths(params.sizes, [&]<int kContent, int kShared, int kValue>() {
        launch_joint_kernels<kContent, kShared, kValue>(ctx, params);
    });
}

}  // namespace pastur
