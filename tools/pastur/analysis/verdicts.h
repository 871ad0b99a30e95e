#pragma once
// Verdicts on claims, each evaluated under every choice that an analysis leaves open.
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tools/pastur/analysis/intervals.h"

namespace pastur {

enum class Verdict : uint8_t { kSupported, kContradicted, kUndecided };
const char* name_of(Verdict verdict);

/// Supported if the whole interval lies above the threshold, contradicted if all of it lies below; undecided if it
/// straddles the threshold or if there is none.
Verdict is_above(const MeanAndInterval& value, double threshold);
Verdict is_below(const MeanAndInterval& value, double threshold);
/// Whether the value lies within [-bound, bound], and whether it lies outside, on one side.
Verdict is_within(const MeanAndInterval& value, double bound);
Verdict is_outside(const MeanAndInterval& value, double bound);
/// Contradicted if any is, else undecided if any is or if there are none, else supported.
Verdict all_of(const std::vector<Verdict>& verdicts);

/// A claim under one choice.
struct ClaimValue {
    std::string id;
    Verdict verdict;
    MeanAndInterval value;
};
struct ChoiceVerdict {
    std::vector<std::pair<std::string, std::string>>
        dimensions;  ///< name and value; the same names in every choice
    std::vector<ClaimValue> claims;
    Verdict verdict = Verdict::kUndecided;
};

struct Tally {
    int64_t supported = 0, contradicted = 0, undecided = 0;
    void add(Verdict verdict);
};
nlohmann::ordered_json to_json(const Tally& tally);

/// What the choices say together.
///     Choices on both sides: "depends on" the fewest dimensions that determine the side, of those the ones that say
///     most about it, which come first.
///     One side alone: that one if more than half of the choices are decided. Else "undecided".
struct Judgement {
    std::string verdict;
    std::vector<std::string> depends_on;
    Tally tally;
    std::map<std::string, std::map<std::string, Tally>> by;  ///< dimension, value
};
using Verdicts = std::vector<std::pair<std::vector<std::pair<std::string, std::string>>, Verdict>>;
Judgement judge(const Verdicts& verdicts);

}  // namespace pastur
