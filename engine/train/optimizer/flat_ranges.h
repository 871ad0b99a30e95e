#pragma once
// Lists of ascending ranges of the flat parameter buffers. The elements of a list in sequence are its stream.
#include <algorithm>
#include <vector>

#include "engine/model/param_table.h"

namespace pastur {

using FlatRanges = std::vector<FlatRange>;

/// Calls visit(overlap, offset of the overlap's first element in the stream) for every part of `range` that
/// lies in `ranges`.
template <typename Visit>
void for_each_overlap(const FlatRanges& ranges, const FlatRange& range, const Visit& visit) {
    int64_t before = 0;
    for (const FlatRange& part : ranges) {
        const int64_t begin = std::max(part.begin, range.begin), end = std::min(part.end(), range.end());
        if (begin < end) visit(FlatRange{begin, end - begin}, before + begin - part.begin);
        before += part.count;
    }
}

/// Length of the stream.
int64_t elements_of(const FlatRanges& ranges);
/// The elements that lie in both lists.
FlatRanges intersection(const FlatRanges& a, const FlatRanges& b);
/// Elements [begin, begin + count) of the stream; less at its end.
FlatRanges part_of_stream(const FlatRanges& ranges, int64_t begin, int64_t count);
/// In ascending order, with adjacent ranges joined. The ranges may be in any order but must not overlap.
FlatRanges joined(FlatRanges ranges);

}  // namespace pastur
