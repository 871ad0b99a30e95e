#pragma once
// What the consumer warpgroups of wgmma/streaming_backward.cu compute for a key tile.
#include "kernels/cuda/attention/score_gradients.cuh"
#include "kernels/cuda/attention/wgmma/streaming_backward_queries.cuh"

namespace pastur::attention::wgmma_streaming {

#if defined(PASTUR_HOPPER)

/// acc = this group's half of the columns of dS K, over the tile's keys.
template <typename Widths, typename Tiles, int kTiles>
__device__ __forceinline__ void piece_product(float (&acc)[kTiles][4], SharedAddress scores,
                                              SharedAddress keys, int group) {
    using Keys = typename Tiles::RowsQk;
    static_assert(kTiles == Tiles::kPieceColumns / 8);
    if constexpr (Widths::kQk == 96) {  // 32 columns of a part, and 16 of the first part
        unrolled<kRows / 16>([&]<int kStep>() {
            const uint64_t a = Tiles::Scores::template by_columns<0, kStep * 16>(scores);
            const uint64_t first = Keys::template by_columns<0, kStep * 16>(keys);
            const uint64_t second = Keys::template by_columns<1, kStep * 16>(keys);
            product_of_columns<32>(acc, a, group == 0 ? first : second, kStep > 0);
            product_of_columns<16, 4>(
                acc, a, Keys::template by_columns<0, kStep * 16>(keys + 64 + group * 32), kStep > 0);
        });
        return;
    }
    constexpr int kWhole = Widths::kQk / 128;  // parts of 64 columns that belong to one group
    constexpr int kPart = Keys::part(0).width * kRows * 2;
    static_assert(kWhole <= 1);
    unrolled<kRows / 16>([&]<int kStep>() {
        const uint64_t a = Tiles::Scores::template by_columns<0, kStep * 16>(scores);
        if constexpr (kWhole > 0)
            product_of_columns<64>(
                acc, a,
                Keys::template by_columns<0, kStep * 16>(keys + group * (Widths::kQk / 64 - 1) * kPart),
                kStep > 0);
        if constexpr (Tiles::kPieceColumns % 64 == 32) {  // half of the part between, or of the only one
            constexpr int kBetween = Keys::part(0).width == 64 ? kWhole : 0;
            const int offset = group * (Keys::part(0).width == 64 ? 64 : kPart);
            product_of_columns<32, kWhole * 8>(
                acc, a, Keys::template by_columns<kBetween, kStep * 16>(keys + offset), kStep > 0);
        }
    });
}

/// The accumulators that to_fragments rounded, in fp32 again.
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

/// A consumer warpgroup at work on one key tile: its gradients, and a step's operands.
template <typename Widths, Mask kMask>
struct KeyGradients {
    using Tiles = BackwardTiles<Widths>;
    using Keys = KeyTile<Tiles, kMask>;
    static constexpr int kTiles = Tiles::kCols / 8;
    const BackwardShared<Tiles>& shared;
    const BackwardKernelParams& p;
    BackwardConsumer<Tiles>& consumer;
    int pieces = 0;  ///< handed over so far
    float s[kTiles][4], dp[kTiles][4], dq[Tiles::kPieceColumns / 8][4];
    float dk[Widths::kQk / 8][4], dv[Widths::kV / 8][4];
    uint32_t prob[kTiles / 2][4], ds[kTiles / 2][4];
    KeyPair<kMask> pair;  ///< of the thread, in the current key tile

    /// S becomes P; `row`: the warp's first key.
    __device__ __forceinline__ void probabilities(const Keys& tile, int step, int row) {
        products_done(s);
        const int query = tile.queries_at(step) * Tiles::kCols;
        probabilities_of_keys(s, stats(), p.attention.scale * kLog2E, query < tile.first + kRows,
                              query + consumer.lane % 4 * 2 - (row + consumer.lane / 4), pair);
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

    /// Queues dq of the previous step. At the first step dS is not there yet, and the result is discarded.
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
    /// Stores dS^T for both groups' next turns.
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
        // With one slot for both groups, the other group's last piece must have left it; otherwise this
        // group's.
        if constexpr (Tiles::kSlots == 1)
            mbarrier_sleep(shared.piece_empty[1 - group], (pieces + 1 - group) & 1);
        else
            mbarrier_sleep(shared.empty_at(group, pieces), (pieces / Tiles::kSlotsOfGroup + 1) & 1);
        const SharedAddress to =
            shared.piece(group, pieces) + static_cast<int>(threadIdx.x) % kWarpgroup * 16;
#pragma unroll
        for (int n = 0; n < Tiles::kPieceColumns / 8; ++n) store_shared_16(to + n * kWarpgroup * 16, dq[n]);
        shared_written();
        mbarrier_arrive(shared.full_at(group, pieces++));
    }

    /// The first step. None of its queries sees the second group's keys, whose dS is 0 there.
    __device__ __forceinline__ int skip_masked(const Keys& tile) {
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

    /// Every step queues its GEMMs in one turn: dq of the previous step, dv and dk, and S and dP of the next
    /// step where registers allow it; otherwise these follow when the first are done.
    __device__ __forceinline__ void walk(const Keys& tile, int row, int first) {
        constexpr bool kAhead = Tiles::kRunsAhead;
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
    /// As walk() with fewer registers: S before dP, dk before dq, dv together with dP, and P for dS from its
    /// bf16 form.
    __device__ __forceinline__ void walk_wide(const Keys& tile, int row, int first) {
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

    /// Clears dk and dv. Their values do not matter, as the first GEMMs overwrite them; without it the
    /// compiler keeps them live across items.
    __device__ __forceinline__ void start() {
        clear(dk);
        clear(dv);
    }
    /// All steps of a key tile except the last step's dq. `row`: the warp's first key.
    __device__ __forceinline__ void add_steps(const Keys& tile, int row) {
        consumer.keep_rows();
        pair = KeyPair<kMask>(row + consumer.lane / 4, p.attention.sizes, p.attention.documents, tile.batch);
        const int first = skip_masked(tile);
        if constexpr (Tiles::kWide)
            walk_wide(tile, row, first);
        else
            walk(tile, row, first);
    }
    __device__ __forceinline__ void add_last_queries(const Keys& tile) {
        consumer.turns.wait();
        products_begin();
        query_product(tile.steps);
        products_wait<0>();
        products_done(dq);
        hand_over();
        consumer.turns.pass();
    }
    __device__ __forceinline__ void store_keys(const Keys& tile, int row) {
        const Sizes& sizes = p.attention.sizes;
        if constexpr (Tiles::kStagesOut) {
            const SharedAddress out_k = shared.out_k(consumer.group, consumer.warp);
            const SharedAddress out_v = shared.out_v(consumer.group, consumer.warp);
            put_rows<typename Tiles::OutK>(out_k, dk, p.attention.scale, consumer.lane);
            put_rows<typename Tiles::OutV>(out_v, dv, 1, consumer.lane);
            shared_written();
            __syncwarp();
            if (consumer.lane == 0) {
                store_rows_of<typename Tiles::OutK>(p.dk, out_k, row, tile.head, tile.batch);
                store_rows_of<typename Tiles::OutV>(p.dv, out_v, row, tile.head, tile.batch);
                stores_commit();
            }
            return;
        }
        store_block(token_rows(p.attention.dk, sizes.content, p.attention.dk_shared, sizes.rotary, tile.batch,
                               tile.head),
                    dk, p.attention.scale, p.attention.scale, row, sizes.tokens, consumer.lane);
        store_block(token_rows(p.attention.dv, tile.batch, tile.head, sizes.value), dv, 1, 1, row,
                    sizes.tokens, consumer.lane);
    }

    /// The rest of a key tile, then dq of an earlier pair. Both are rotated back by the same angles, which
    /// are loaded while GEMMs are under way where registers allow it.
    template <bool kRotate>
    __device__ __forceinline__ void finish(const BackwardItem& item, int row, SharedAddress rows_empty) {
        constexpr bool kAhead = Tiles::kKeepsRows;
        const bool keys = p.order.has(item.keys);
        // Without keys the tile is not used, but the bounds of documents that it reads must exist.
        const Keys tile(p, kMask == Mask::kDocuments && !keys ? 0 : item.keys, item.tile);
        RowAngles<Widths::kRotaryPairs> angles;
        const auto request = [&]() __attribute__((always_inline)) {
            angles.request(p.attention.rope_table, row, p.attention.sizes.tokens, consumer.lane);
        };
        if constexpr (kRotate && kAhead) request();
        if constexpr (Tiles::kStagesOut) rows_have_left(consumer.lane);
        if (keys) add_last_queries(tile);
        release(rows_empty);
        if (keys) {
            if (kRotate && p.attention.rotated_keys) {
                if constexpr (!kAhead) request();
                angles.rotate_back(dk);
            }
            store_keys(tile, row);
        }
        if constexpr (kRotate && !kAhead) request();
        if (p.order.has(item.sums))
            round_queries<Widths, kRotate>(consumer, p, QueryTiles(p, item.sums, item.tile), angles);
    }
};

#endif  // PASTUR_HOPPER

}  // namespace pastur::attention::wgmma_streaming
