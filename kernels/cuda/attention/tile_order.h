#pragma once
// In which order the blocks of threads of attention backward on Hopper take their work
// (cuda/wgmma_streaming_backward.cuh). Plain arithmetic: what it promises is tested without a GPU.
#include <algorithm>
#include <cmath>

#include "kernels/base/host_device.h"

namespace pastur::attention {

/// `pairs` of a sequence and a key head, each of `tiles` blocks of keys and as many of queries: the work is
/// numbered items, which blocks of threads take one by one and each works on in that order.
struct BackwardOrder {
    int pairs, tiles;
    int group;  ///< pairs whose blocks of keys go together

    PASTUR_HOST_DEVICE int blocks() const { return pairs * tiles; }
    PASTUR_HOST_DEVICE bool has(int pair) const { return pair >= 0 && pair < pairs; }
};

struct BackwardDistances {
    int ahead;   ///< items from a pair's row_stats, at the least, to its blocks of keys
    int behind;  ///< pairs from a block of keys to dq of its queries, a multiple of the group
};

PASTUR_HOST_DEVICE inline int backward_items(const BackwardOrder& order, const BackwardDistances& distances) {
    const int groups = (order.pairs + order.group - 1) / order.group;
    return distances.ahead + (groups * order.group + distances.behind) * order.tiles;
}

/// For `workers` blocks of threads. group_items and behind_items: blocks of keys in a group, and from one to
/// dq of its queries at the least, a worker.
inline BackwardOrder backward_order(int pairs, int tiles, int workers, double group_items) {
    return {pairs, tiles, std::min(static_cast<int>(std::ceil(group_items * workers / tiles)), pairs)};
}
inline BackwardDistances backward_distances(const BackwardOrder& order, int workers, double behind_items) {
    const int behind = static_cast<int>(std::ceil(behind_items * workers / order.tiles));
    // A group's first items want row_stats of all its pairs; those of the last pair are then made 1.5 items a
    // worker before.
    const int ahead = order.group * order.tiles + static_cast<int>(1.5 * workers);
    return {std::min(ahead, order.blocks()), (behind + order.group - 1) / order.group * order.group};
}

/// One item: a block of keys; then dq of the queries of the same tokens of an earlier pair, from sums that
/// other items have made by then; then row_stats of queries of a later pair, which other items will need. In
/// the first and the last items some of the three are missing.
///
/// An item needs only what items before it make, so that whoever waits waits for work that is under way: a
/// block of keys the row_stats of its pair, and the turns of the blocks after it; dq the blocks of keys of
/// its pair. Blocks of keys go by groups of pairs: the last one of each of the group's pairs, then the one
/// before, and so on. So a block starts some steps after the one whose turn it waits for.
struct BackwardItem {
    int keys, sums, tile;   ///< pairs, none where order.has() is false, and the block of both
    int stats, stats_tile;  ///< likewise

    PASTUR_HOST_DEVICE BackwardItem(const BackwardOrder& order, const BackwardDistances& distances,
                                    int index) {
        const int index_of_keys = index - distances.ahead, of_group = order.group * order.tiles;
        const int within = (index_of_keys < 0 ? 0 : index_of_keys) % of_group;
        keys = index_of_keys < 0 ? -1 : index_of_keys / of_group * order.group + within % order.group;
        sums = keys - distances.behind;
        tile = order.tiles - 1 - within / order.group;
        stats = index / order.tiles;
        stats_tile = order.tiles - 1 - index % order.tiles;
    }
};

}  // namespace pastur::attention
