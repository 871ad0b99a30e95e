#pragma once
#include <cstdint>

namespace pastur {

/// A keyed bijection of [0, n), evaluated point by point: a shuffle without a table.
///
/// Swap-or-not (Hoang, Morris, Rogaway 2012): round r pairs x with K_r - x mod n and swaps the pair if a
/// keyed bit of it is set. Each round is its own inverse, so the whole is a bijection for every n; a Feistel
/// network needs a power of two and cycle walking. About four rounds per bit of n mix well.
class Permutation {
  public:
    /// n >= 1.
    Permutation(uint64_t n, uint64_t key);
    /// The image of x < n.
    uint64_t operator()(uint64_t x) const;

  private:
    uint64_t n_;
    uint64_t key_;
    int rounds_;
};

}  // namespace pastur
