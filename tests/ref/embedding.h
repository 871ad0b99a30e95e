#pragma once
#include "tests/ref/vector.h"

namespace pastur::ref {

/// out[n, :] = table[ids[n], :]; table [V, width] -> [ids.size(), width].
template <class S>
std::vector<S> embedding(const std::vector<S>& table, const std::vector<int32_t>& ids, int64_t width) {
    std::vector<S> out;
    out.reserve(ids.size() * static_cast<size_t>(width));
    for (int32_t id : ids)
        for (int64_t c = 0; c < width; ++c) out.push_back(at(table, id * width + c));
    return out;
}

}  // namespace pastur::ref
