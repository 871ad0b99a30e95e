// The order of work that wgmma-streaming's backward kernel relies on: kernels/cuda/attention/tile_order.h.
#include "kernels/cuda/attention/tile_order.h"

#include <gtest/gtest.h>

#include <vector>

namespace pastur::test {
namespace {

using namespace attention::wgmma_streaming;  // NOLINT

/// For each (pair, tile) the item that works on it; -1: none yet.
using Places = std::vector<int>;

class AttentionOrder : public ::testing::Test {
  protected:
    /// Follows all items of an order, which must work on each tile once.
    void follow(int pairs, int tiles, int workers, double group_items, double behind_items) {
        order_ = backward_order(pairs, tiles, workers, group_items);
        const BackwardDistances distances = backward_distances(order_, workers, behind_items);
        for (Places* places : {&keys_, &sums_, &stats_})
            places->assign(static_cast<size_t>(order_.total()), -1);
        for (int index = 0; index < backward_items(order_, distances); ++index) {
            const BackwardItem item(order_, distances, index);
            take(keys_, item.keys, item.tile, index);
            take(sums_, item.sums, item.tile, index);
            take(stats_, item.stats, item.stats_tile, index);
        }
        for (const Places* places : {&keys_, &sums_, &stats_})
            EXPECT_EQ(std::count(places->begin(), places->end(), -1), 0);
    }
    int at(const Places& places, int pair, int tile) const {
        return places[static_cast<size_t>(pair * order_.tiles + tile)];
    }

    TileOrder order_{};
    Places keys_, sums_, stats_;

  private:
    void take(Places& places, int pair, int tile, int index) const {
        if (!order_.has(pair)) return;
        ASSERT_TRUE(tile >= 0 && tile < order_.tiles);
        int& place = places[static_cast<size_t>(pair * order_.tiles + tile)];
        EXPECT_EQ(place, -1) << "pair " << pair << ", tile " << tile << " twice";
        place = index;
    }
};

TEST_F(AttentionOrder, EveryItemNeedsOnlyItemsBeforeIt) {
    for (const int pairs : {1, 2, 7, 65, 301}) {
        for (const int tiles : {1, 2, 3, 8, 17, 64}) {
            for (const int workers : {1, 5, 132}) {
                if (workers > pairs * tiles) continue;
                for (const auto& [group_items, behind_items] : {std::pair(1.5, 3.0), std::pair(0.5, 2.0)}) {
                    SCOPED_TRACE(::testing::Message()
                                 << pairs << " pairs of " << tiles << ", " << workers << " workers");
                    follow(pairs, tiles, workers, group_items, behind_items);
                    for (int pair = 0; pair < pairs; ++pair) {
                        for (int tile = 0; tile < tiles; ++tile) {
                            const int keys = at(keys_, pair, tile);
                            if (tile + 1 < tiles) {
                                EXPECT_GT(keys, at(keys_, pair, tile + 1)) << "its turn comes later";
                            }
                            for (int other = 0; other < tiles; ++other) {
                                ASSERT_LT(at(stats_, pair, other), keys);
                                ASSERT_LT(keys, at(sums_, pair, other));
                            }
                        }
                    }
                }
            }
        }
    }
}

TEST_F(AttentionOrder, LeavesTimeBetweenThem) {
    const int workers = 132;
    follow(768, 8, workers, 1.5, 3);  // 64 sequences of 1,024 tokens, 12 heads
    EXPECT_EQ(order_.group, 25);
    for (int pair = 0; pair < 768; ++pair) {
        int made = 0;
        for (int tile = 0; tile < 8; ++tile) {
            EXPECT_GE(at(sums_, pair, tile) - at(keys_, pair, tile), 3 * workers);
            if (tile > 0) {
                EXPECT_EQ(at(keys_, pair, tile - 1) - at(keys_, pair, tile), 25);
            }
            made = std::max(made, at(stats_, pair, tile));
        }
        EXPECT_GE(at(keys_, pair, 7) - made, 3 * workers / 2);
    }
}

}  // namespace
}  // namespace pastur::test
