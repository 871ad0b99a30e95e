#pragma once
#include <algorithm>
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

/// losses[n] = log sum_v exp logits[n, v] - logits[n, targets[n]], 0 where targets[n] is negative; logits
/// [targets.size(), vocab].
template <class S>
std::vector<S> cross_entropy(const std::vector<S>& logits, const std::vector<int32_t>& targets,
                             int64_t vocab) {
    std::vector<S> losses;
    for (int64_t n = 0; n < static_cast<int64_t>(targets.size()); ++n) {
        if (at(targets, n) < 0) {
            losses.push_back(S(0));
            continue;
        }
        const S* row = &at(logits, n * vocab);
        double largest = -INFINITY;
        for (int64_t v = 0; v < vocab; ++v) largest = std::max(largest, real_part(row[v]));
        S sum(0);
        for (int64_t v = 0; v < vocab; ++v) sum += std::exp(row[v] - largest);
        losses.push_back(std::log(sum) - (row[at(targets, n)] - largest));
    }
    return losses;
}

}  // namespace pastur::ref
