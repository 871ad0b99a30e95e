#include "engine/train/optimizer/gradient_buckets.h"

#include <algorithm>

#include "kernels/reduce.h"

namespace pastur {
namespace {

constexpr int64_t kMostElements = int64_t{8} << 20;
constexpr int64_t kBuckets = 8;
/// Elements of a part below which latency, not bandwidth, determines the time of a message.
constexpr int64_t kLeastPart = 16 << 10;

}  // namespace

int64_t GradientBuckets::quantum(int ranks) {
    return kSumPiece * ranks;
}

GradientBuckets::GradientBuckets(const ParamTable& table, int ranks) : ranks_(ranks) {
    const int64_t total = table.total_elements(), step = quantum(ranks);
    PASTUR_CHECK(total % step == 0, "{} elements for {} ranks", total, ranks);
    const int64_t wanted =
        std::max(std::min(total / kBuckets, kMostElements), std::min(kLeastPart * ranks, total / 2));
    const int64_t length = std::max(wanted / step * step, step);
    // The last bucket spans from the last whole quantum of matrices to the end.
    int64_t end = table.matrix_elements() / step * step;
    const FlatRange last{end, total - end};
    for (; end > 0; end -= std::min(length, end))
        ranges_.push_back({end - std::min(length, end), std::min(length, end)});
    if (last.count > 0) ranges_.push_back(last);
}

FlatRange GradientBuckets::part(size_t bucket, int rank) const {
    const int64_t count = ranges_[bucket].count / ranks_;
    return {ranges_[bucket].begin + rank * count, count};
}

std::vector<FlatRange> GradientBuckets::parts(int rank) const {
    std::vector<FlatRange> parts;
    for (size_t bucket = 0; bucket < ranges_.size(); ++bucket) parts.push_back(part(bucket, rank));
    std::sort(parts.begin(), parts.end(),
              [](const FlatRange& a, const FlatRange& b) { return a.begin < b.begin; });
    return parts;
}

}  // namespace pastur
