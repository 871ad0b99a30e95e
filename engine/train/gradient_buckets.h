#pragma once
// How ranks share the flat parameter buffers: cut into buckets that travel on their own, each bucket into one
// part a rank.
#include <vector>

#include "engine/model/param_table.h"

namespace pastur {

/// Backward finishes the flat buffer from the end of its matrices down to its beginning, and the norms, which
/// lie behind the matrices, when it has passed every layer. So the last bucket, which holds them, is complete
/// last, and the others one by one from the back.
class GradientBuckets {
  public:
    /// table is laid out, and padded to a multiple of quantum(ranks). 8 buckets or more, so that the first
    /// can leave while backward still runs, and of at most 32 MiB; but longer ones where a rank's part would
    /// be too short: on a thousand ranks a bucket is two thousand messages one after the other.
    GradientBuckets(const ParamTable& table, int ranks);

    /// What a bucket's length divides by: parts begin where pieces of the gradient's norm do (reduce.h).
    static int64_t quantum(int ranks);

    /// In the order in which they become complete.
    const std::vector<FlatRange>& ranges() const { return ranges_; }
    /// Whether ranges()[bucket] is complete once all matrix gradients from `frontier` on are; never true of
    /// the last one.
    bool complete(size_t bucket, int64_t frontier) const {
        return bucket + 1 < ranges_.size() && ranges_[bucket].begin >= frontier;
    }
    FlatRange part(size_t bucket, int rank) const;
    /// A rank's parts, by their place in the flat buffers.
    std::vector<FlatRange> parts(int rank) const;

  private:
    int ranks_;
    std::vector<FlatRange> ranges_;
};

}  // namespace pastur
