#include "data/permutation.h"

#include <algorithm>
#include <bit>

#include "kernels/base/error.h"
#include "kernels/base/random.h"

namespace pastur {

Permutation::Permutation(uint64_t n, uint64_t key)
    : n_(n), key_(mix64(key + kGoldenGamma)), rounds_(16 + 4 * std::bit_width(n)) {
    PASTUR_CHECK(n >= 1 && n <= (1ull << 62), "permutation of {} elements", n);
}

uint64_t Permutation::operator()(uint64_t x) const {
    PASTUR_CHECK(x < n_, "permutation of {} elements at {}", n_, x);
    uint64_t counter = key_;
    for (int round = 0; round < rounds_; ++round) {
        const uint64_t word = mix64(counter += kGoldenGamma);
        const uint64_t pivot = scale_below(word, n_);
        const uint64_t partner = pivot >= x ? pivot - x : pivot + n_ - x;
        // Both of the pair get the same word; its top bit decides.
        if (mix64(std::max(x, partner) ^ (word * kGoldenGamma)) >> 63) x = partner;
    }
    return x;
}

}  // namespace pastur
