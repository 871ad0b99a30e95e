#pragma once
// The order in which the CTAs of wgmma-streaming take their work. Plain arithmetic, tested without a GPU.
#include <algorithm>
#include <cmath>

#include "kernels/base/host_device.h"

namespace pastur::attention::wgmma_streaming {

/// Pairs of a sequence and a head, each cut into tiles of tokens, taken in groups of pairs whose rows fit
/// into L2. Backward numbers items in this order (BackwardItem): its pairs have a key head, its tiles are
/// keys and the queries of the same tokens.
struct TileOrder {
    int pairs, tiles;
    int group;  ///< pairs whose tiles are neighbours in the order

    PASTUR_HOST_DEVICE int total() const { return pairs * tiles; }
    PASTUR_HOST_DEVICE bool has(int pair) const { return pair >= 0 && pair < pairs; }
};

struct BackwardDistances {
    int ahead;   ///< least number of items from a pair's row_stats to its key tiles
    int behind;  ///< pairs from a key tile to dq of its queries, a multiple of the group
};

PASTUR_HOST_DEVICE inline int backward_items(const TileOrder& order, const BackwardDistances& distances) {
    const int groups = (order.pairs + order.group - 1) / order.group;
    return distances.ahead + (groups * order.group + distances.behind) * order.tiles;
}

/// The order for `workers` CTAs. group_items: key tiles in a group, per worker.
inline TileOrder backward_order(int pairs, int tiles, int workers, double group_items) {
    return {pairs, tiles, std::min(static_cast<int>(std::ceil(group_items * workers / tiles)), pairs)};
}
/// behind_items: least number of items from a key tile to dq of its queries, per worker.
inline BackwardDistances backward_distances(const TileOrder& order, int workers, double behind_items) {
    const int behind = static_cast<int>(std::ceil(behind_items * workers / order.tiles));
    // The first items of a group need row_stats of all its pairs. Those of the last pair are computed 1.5
    // items per worker earlier.
    const int ahead = order.group * order.tiles + static_cast<int>(1.5 * workers);
    return {std::min(ahead, order.total()), (behind + order.group - 1) / order.group * order.group};
}

/// One item of work for a CTA: a key tile; then dq of the queries of the same tokens of an earlier pair, from
/// sums that other items have completed by then; then row_stats of queries of a later pair, which later items
/// need. The first and the last items lack some of the three.
///
/// An item depends only on items before it, so a CTA that waits waits for work that is running: a key tile
/// for the row_stats of its pair and for the turns of the later key tiles of its pair; dq for all key tiles
/// of its pair. Key tiles go by groups of pairs: the last tile of each pair of the group, then the tile
/// before it, and so on. A tile therefore starts several steps after the tile whose turn it waits for.
struct BackwardItem {
    // A pair for which order.has() is false stands for none.
    int keys, sums, tile;   ///< pair of the key tile, pair of dq, and the tile of both
    int stats, stats_tile;  ///< pair and tile of row_stats

    PASTUR_HOST_DEVICE BackwardItem(const TileOrder& order, const BackwardDistances& distances, int index) {
        const int index_of_keys = index - distances.ahead, of_group = order.group * order.tiles;
        const int within = (index_of_keys < 0 ? 0 : index_of_keys) % of_group;
        keys = index_of_keys < 0 ? -1 : index_of_keys / of_group * order.group + within % order.group;
        sums = keys - distances.behind;
        tile = order.tiles - 1 - within / order.group;
        stats = index / order.tiles;
        stats_tile = order.tiles - 1 - index % order.tiles;
    }
};

}  // namespace pastur::attention::wgmma_streaming
