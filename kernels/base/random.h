#pragma once
// Integer randomness with the same bits on every machine. The standard library's engines are portable, but its
// distributions are not.
#include <cstdint>

namespace pastur {

/// The finaliser of SplitMix64: a bijection of 64-bit words with good avalanche.
constexpr uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/// The increment of SplitMix64: 2^64 divided by the golden ratio, odd.
inline constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15ull;

/// Maps a uniform word onto [0, n) by the high word of a product; the bias is below n / 2^64.
constexpr uint64_t scale_below(uint64_t word, uint64_t n) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(word) * n) >> 64);
}

/// SplitMix64 (Steele, Lea, Flood 2014): mix64 of a counter. Streams of different (seed, stream) are unrelated.
class SplitMix {
  public:
    explicit constexpr SplitMix(uint64_t seed, uint64_t stream = 0)
        : state_(mix64(seed + kGoldenGamma) ^ mix64(stream * kGoldenGamma + 1)) {}
    constexpr uint64_t next() { return mix64(state_ += kGoldenGamma); }
    /// Uniform in [0, n); n > 0.
    constexpr uint64_t below(uint64_t n) { return scale_below(next(), n); }
    /// True with probability percent / 100.
    constexpr bool chance(uint64_t percent) { return below(100) < percent; }

  private:
    uint64_t state_;
};

}  // namespace pastur
