#include "engine/train/optimizer/flat_ranges.h"

namespace pastur {

int64_t elements_of(const FlatRanges& ranges) {
    int64_t elements = 0;
    for (const FlatRange& range : ranges) elements += range.count;
    return elements;
}

FlatRanges intersection(const FlatRanges& a, const FlatRanges& b) {
    FlatRanges both;
    for (const FlatRange& range : b)
        for_each_overlap(a, range, [&](const FlatRange& part, int64_t) { both.push_back(part); });
    return both;
}

FlatRanges part_of_stream(const FlatRanges& ranges, int64_t begin, int64_t count) {
    FlatRanges parts;
    int64_t before = 0;
    for (const FlatRange& range : ranges) {
        const int64_t first = std::max(begin - before, int64_t{0});
        const int64_t end = std::min(begin + count - before, range.count);
        if (first < end) parts.push_back({range.begin + first, end - first});
        before += range.count;
    }
    return parts;
}

FlatRanges joined(FlatRanges ranges) {
    std::sort(ranges.begin(), ranges.end(),
              [](const FlatRange& a, const FlatRange& b) { return a.begin < b.begin; });
    FlatRanges runs;
    for (const FlatRange& range : ranges) {
        if (!runs.empty() && runs.back().end() == range.begin)
            runs.back().count += range.count;
        else
            runs.push_back(range);
    }
    return runs;
}

}  // namespace pastur
