#pragma once
// The entries of a weight matrix taken as a sample: their variance, and the same entries in another order.
#include <cstdint>
#include <span>
#include <vector>

namespace pastur {

/// mean (w - mean w)^2, in double; 0 for no entries, NaN when one is NaN or infinite.
double entry_variance(std::span<const float> entries);
double entry_variance(std::span<const double> entries);

/// A uniformly random order of the entries (Fisher-Yates, by Philox): a pure function of (seed, stream) and
/// the number of entries, the same on every machine. Different streams are unrelated.
void shuffle_entries(std::span<float> entries, uint64_t seed, uint64_t stream);
void shuffle_entries(std::span<double> entries, uint64_t seed, uint64_t stream);

/// Factors of a product for one draw of the permuted null: each factor's own entries in a new order, which
/// keeps their distribution and destroys every direction in it. `seed` names the matrix (say, a hash of the
/// run's seed, step, layer and head), `draw` counts the permutations. At most 2^16 factors.
std::vector<std::vector<float>> shuffled_factors(std::span<const std::span<const float>> factors,
                                                 uint64_t seed, uint64_t draw);
std::vector<std::vector<double>> shuffled_factors(std::span<const std::span<const double>> factors,
                                                  uint64_t seed, uint64_t draw);

}  // namespace pastur
