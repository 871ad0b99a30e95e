#include "diag/entries.h"

#include <cmath>
#include <limits>
#include <utility>

#include "kernels/error.h"
#include "kernels/philox.h"

namespace pastur {
namespace {

template <typename T>
double variance(std::span<const T> entries) {
    if (entries.empty()) return 0;
    const double n = static_cast<double>(entries.size());
    double sum = 0, squares = 0;
    for (T w : entries) sum += static_cast<double>(w);
    const double mean = sum / n;
    for (T w : entries) squares += (static_cast<double>(w) - mean) * (static_cast<double>(w) - mean);
    const double result = squares / n;
    return std::isfinite(result) ? result : std::numeric_limits<double>::quiet_NaN();
}

/// 64-bit words of one Philox stream, two from each block.
class Words {
  public:
    Words(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
    /// Uniform in [0, n), with a bias below n / 2^64.
    uint64_t below(uint64_t n) {
        if (next_ % 2 == 0) block_ = philox_block(seed_, stream_, next_ / 2);
        const size_t half = 2 * (next_++ % 2);
        const uint64_t word = static_cast<uint64_t>(block_[half + 1]) << 32 | block_[half];
        return static_cast<uint64_t>((static_cast<unsigned __int128>(word) * n) >> 64);
    }

  private:
    uint64_t seed_, stream_, next_ = 0;
    PhiloxBlock block_{};
};

template <typename T>
void shuffle(std::span<T> entries, uint64_t seed, uint64_t stream) {
    Words words(seed, stream);
    for (size_t i = entries.size(); i > 1; --i) std::swap(entries[i - 1], entries[words.below(i)]);
}

template <typename T>
std::vector<std::vector<T>> shuffled(std::span<const std::span<const T>> factors, uint64_t seed,
                                     uint64_t draw) {
    PASTUR_CHECK(factors.size() <= 1 << 16 && draw < 1ull << 48, "{} factors, draw {}", factors.size(), draw);
    std::vector<std::vector<T>> result;
    for (size_t i = 0; i < factors.size(); ++i) {
        result.emplace_back(factors[i].begin(), factors[i].end());
        shuffle(std::span<T>(result.back()), seed, draw << 16 | i);
    }
    return result;
}

}  // namespace

double entry_variance(std::span<const float> entries) {
    return variance(entries);
}
double entry_variance(std::span<const double> entries) {
    return variance(entries);
}

void shuffle_entries(std::span<float> entries, uint64_t seed, uint64_t stream) {
    shuffle(entries, seed, stream);
}
void shuffle_entries(std::span<double> entries, uint64_t seed, uint64_t stream) {
    shuffle(entries, seed, stream);
}

std::vector<std::vector<float>> shuffled_factors(std::span<const std::span<const float>> factors,
                                                 uint64_t seed, uint64_t draw) {
    return shuffled(factors, seed, draw);
}
std::vector<std::vector<double>> shuffled_factors(std::span<const std::span<const double>> factors,
                                                  uint64_t seed, uint64_t draw) {
    return shuffled(factors, seed, draw);
}

}  // namespace pastur
