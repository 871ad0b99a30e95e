#pragma once
// How ranks share the flat parameter buffers: buckets that are communicated separately, each with one part
// per rank.
#include <vector>

#include "engine/model/param_table.h"

namespace pastur {

/// The backward pass completes the gradients of matrices from the end of the flat buffer to its beginning.
/// Norms, which lie behind the matrices, are complete only after the first layer. So buckets become complete
/// one by one from the back, and the one with the norms last.
class GradientBuckets {
  public:
    /// table must be laid out and padded to a multiple of quantum(ranks). There are 8 buckets or more, so the
    /// first can be sent during the backward pass, of at most 32 MiB. Buckets are longer where a rank's part
    /// would be too short: on a thousand ranks a bucket is two thousand messages in sequence.
    GradientBuckets(const ParamTable& table, int ranks);

    /// Divides the length of every bucket, so parts begin where pieces of the gradient's norm do (reduce.h).
    static int64_t quantum(int ranks);

    /// In the order in which they become complete.
    const std::vector<FlatRange>& ranges() const { return ranges_; }
    /// Whether ranges()[bucket] is complete once all matrix gradients from `frontier` on are; false for the
    /// last bucket.
    bool complete(size_t bucket, int64_t frontier) const {
        return bucket + 1 < ranges_.size() && ranges_[bucket].begin >= frontier;
    }
    FlatRange part(size_t bucket, int rank) const;
    /// A rank's parts, by ascending offset.
    std::vector<FlatRange> parts(int rank) const;

  private:
    int ranks_;
    std::vector<FlatRange> ranges_;
};

}  // namespace pastur
