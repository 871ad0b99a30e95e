#pragma once
// Mixtures of token folders: which source each training sequence comes from.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace pastur {

/// A source of a mixture and the number of its sequences in a period of the schedule.
struct WeightedSource {
    std::string where;  ///< a folder, or shards as in data.train
    int64_t weight;
};

/// Parses "DIR=WEIGHT, DIR=WEIGHT": weights are decimal numbers above 0, of any sum, and become whole numbers without a
/// common divisor. Commas inside braces separate nothing. Throws (kUsage) for anything else, for a source named twice,
/// and for weights of so many digits that a period is longer than 1,000,000 sequences; the message does not name the key.
std::vector<WeightedSource> parse_mixture(const std::string& text);

/// A set of validation shards by name.
struct NamedGlob {
    std::string name, glob;
};
/// Parses "NAME=GLOB, NAME=GLOB". Names are letters, digits, "_", "-" and "."; each names one set. Throws (kUsage), without the key.
std::vector<NamedGlob> parse_val_sets(const std::string& text);

using PlacePath = std::function<std::string(const std::string&)>;
/// The text of data.mixture with `place` applied to each source, and of data.val_sets with it applied to each glob. Both
/// texts must be valid; that of val_sets may be empty.
std::string place_mixture(const std::string& text, const PlacePath& place);
std::string place_val_sets(const std::string& text, const PlacePath& place);

/// Deals sequences to sources by their weights: after every n sequences, each source has had n w / sum(w) of them, less
/// or more than that by less than one.
///
/// This is Tijdeman's solution of the chairman assignment problem (R. Tijdeman 1980, Discrete Mathematics 32, 323-330):
/// of the sources whose lag n w - count is at least 1 / (2 K - 2), the one whose lag would first exceed
/// 1 - 1 / (2 K - 2) comes next. Weights are whole numbers, so the schedule repeats every sum(w) sequences, and a table
/// of one period answers for any n, in any order and without state. It depends on the weights alone.
class MixtureSchedule {
  public:
    /// Weights of at least 1, with a sum of at most 1,000,000.
    explicit MixtureSchedule(const std::vector<int64_t>& weights);

    struct Place {
        size_t source;
        int64_t index;  ///< among the sequences of this source
    };
    Place at(int64_t sequence) const;
    /// How many of the first `sequences` sequences are of this source.
    int64_t count(size_t source, int64_t sequences) const;
    /// Length of a period.
    int64_t period() const { return static_cast<int64_t>(sources_.size()); }

  private:
    std::vector<uint16_t> sources_;            ///< of a period
    std::vector<int32_t> indices_;             ///< of a period, among those of the source
    std::vector<std::vector<int32_t>> slots_;  ///< for each source, its places in a period, ascending
};

/// Throws (kUsage), naming the folders, unless those with a meta.json have one tokenizer, vocabulary and EOS.
void check_same_tokenizer(const std::vector<std::string>& folders);

}  // namespace pastur
