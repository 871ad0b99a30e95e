#pragma once
// Draws the next token from logits.
#include <cstdint>
#include <span>

namespace pastur {

struct Sampling {
    double temperature = 0;  ///< logits are divided by it; 0: the most probable token, whatever the rest says
    int64_t top_k = 0;       ///< only the most probable tokens, so many; 0: all
    double top_p = 1;        ///< only the fewest most probable tokens whose probabilities sum to this; 1: all
    uint64_t seed = 0;
};

/// Throws (kNonFinite): a logit is NaN or +infinity, or all are -infinity.
[[noreturn]] void fail_not_finite();

/// A token id below logits.size(). Among equal logits the lower id counts as more probable. The random number depends
/// only on (seed, sequence, position): Philox with the key `seed`, counter `position` and subsequence `sequence`. So
/// a draw does not depend on what else is in a batch. Throws (kNonFinite) if a logit is NaN or +infinity.
int32_t sample(std::span<const float> logits, const Sampling& sampling, uint64_t sequence, uint64_t position);

}  // namespace pastur
