#pragma once
// The findings of arXiv 2507.09394 as claims about groups of runs.
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "tools/pastur/analysis/groups.h"
#include "tools/pastur/analysis/verdicts.h"

namespace pastur {

struct ClaimText {
    std::string what, variant, text;
    /// The value's place in FORMS of analysis.h, with the names of dimensions in braces; empty: in no place but the
    /// claim's own.
    std::string figure;
    bool counts = true;  ///< part of the finding; else reported with it
    std::string id() const { return what + ":" + variant; }
};
struct Finding {
    std::string id, claim;
    std::vector<ClaimText> claims;
    std::vector<ChoiceVerdict> choices;
};

/// The bounds of the claims, as "rules" of the analysis states them.
struct ClaimBounds {
    static constexpr double kEarlyShare = 0.1;      ///< forms with an early spike, at least
    static constexpr double kSpecificLayers = 0.5;  ///< layers with early spikes, at most
    static constexpr double kStays = 0.5;
    static constexpr double kCorrelation = 0.5;
    static constexpr double kChance = 0.05;  ///< p of a correlation
    static constexpr double kOverlapRatio =
        2;                                    ///< overlap with the next layer over that of random directions
    static constexpr double kTogether = 0.5;  ///< forms with both onsets, of those with any
    static constexpr double kLag = 2;         ///< measurements
};

/// i to iii. A finding has a choice for each combination of its dimensions that every variant of the claim measured;
/// a variant that an arm lacks is taken from its first arm, and the claims about one without runs are undecided.
std::vector<Finding> evaluate_findings(std::span<const RunGroup> groups);

/// An entry of "findings" of analysis.h, without "because".
nlohmann::ordered_json to_json(const Finding& finding);

}  // namespace pastur
