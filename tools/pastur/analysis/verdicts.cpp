#include "tools/pastur/analysis/verdicts.h"

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <set>

namespace pastur {
namespace {

using Values = std::vector<std::string>;
using Sides = std::map<Values, Tally>;

bool is_decided(Verdict verdict) {
    return verdict != Verdict::kUndecided;
}

/// Tallies of the decided choices by their values in the dimensions of the mask.
Sides sides_by(const Verdicts& verdicts, uint32_t mask) {
    Sides sides;
    for (const auto& [dimensions, verdict] : verdicts) {
        if (!is_decided(verdict)) continue;
        Values values;
        for (size_t i = 0; i < dimensions.size(); ++i)
            if (mask >> i & 1) values.push_back(dimensions[i].second);
        sides[values].add(verdict);
    }
    return sides;
}

bool determines(const Sides& sides) {
    return std::all_of(sides.begin(), sides.end(), [](const auto& side) {
        return side.second.supported == 0 || side.second.contradicted == 0;
    });
}

/// The entropy of the side that is left when the values are known, times the number of choices.
double entropy_left(const Sides& sides) {
    double sum = 0;
    for (const auto& [values, tally] : sides) {
        const auto all = static_cast<double>(tally.supported + tally.contradicted);
        for (const int64_t count : {tally.supported, tally.contradicted})
            if (count > 0) sum -= static_cast<double>(count) * std::log(static_cast<double>(count) / all);
    }
    return sum;
}

/// The dimensions that a split depends on.
std::vector<std::string> explain(const Verdicts& verdicts) {
    const auto& dimensions = verdicts.front().first;
    const uint32_t all = (uint32_t{1} << dimensions.size()) - 1;
    const auto left = [&](size_t dimension) {
        return entropy_left(sides_by(verdicts, uint32_t{1} << dimension));
    };
    uint32_t best = all;
    double best_left = INFINITY;
    for (uint32_t mask = 1; mask <= all; ++mask) {
        if (std::popcount(mask) > std::popcount(best) || !determines(sides_by(verdicts, mask))) continue;
        double sum = 0;
        for (size_t i = 0; i < dimensions.size(); ++i)
            if (mask >> i & 1) sum += left(i);
        if (std::popcount(mask) == std::popcount(best) && sum >= best_left) continue;
        best = mask;
        best_left = sum;
    }
    std::vector<size_t> chosen;
    for (size_t i = 0; i < dimensions.size(); ++i)
        if (best >> i & 1) chosen.push_back(i);
    std::stable_sort(chosen.begin(), chosen.end(), [&](size_t a, size_t b) { return left(a) < left(b); });
    std::vector<std::string> names;
    for (const size_t i : chosen) names.push_back(dimensions[i].first);
    return names;
}

}  // namespace

const char* name_of(Verdict verdict) {
    switch (verdict) {
        case Verdict::kSupported:
            return "supported";
        case Verdict::kContradicted:
            return "contradicted";
        case Verdict::kUndecided:
            return "undecided";
    }
    return "";
}

Verdict is_above(const MeanAndInterval& value, double threshold) {
    if (!value.has_interval()) return Verdict::kUndecided;
    if (value.low > threshold) return Verdict::kSupported;
    return value.high < threshold ? Verdict::kContradicted : Verdict::kUndecided;
}

Verdict is_below(const MeanAndInterval& value, double threshold) {
    if (!value.has_interval()) return Verdict::kUndecided;
    if (value.high < threshold) return Verdict::kSupported;
    return value.low > threshold ? Verdict::kContradicted : Verdict::kUndecided;
}

Verdict is_within(const MeanAndInterval& value, double bound) {
    if (!value.has_interval()) return Verdict::kUndecided;
    if (value.low >= -bound && value.high <= bound) return Verdict::kSupported;
    return value.low > bound || value.high < -bound ? Verdict::kContradicted : Verdict::kUndecided;
}

Verdict is_outside(const MeanAndInterval& value, double bound) {
    const Verdict within = is_within(value, bound);
    return within == Verdict::kSupported      ? Verdict::kContradicted
           : within == Verdict::kContradicted ? Verdict::kSupported
                                              : Verdict::kUndecided;
}

Verdict all_of(const std::vector<Verdict>& verdicts) {
    if (std::find(verdicts.begin(), verdicts.end(), Verdict::kContradicted) != verdicts.end())
        return Verdict::kContradicted;
    const bool all = std::all_of(verdicts.begin(), verdicts.end(),
                                 [](Verdict verdict) { return verdict == Verdict::kSupported; });
    return all && !verdicts.empty() ? Verdict::kSupported : Verdict::kUndecided;
}

void Tally::add(Verdict verdict) {
    ++(verdict == Verdict::kSupported      ? supported
       : verdict == Verdict::kContradicted ? contradicted
                                           : undecided);
}

nlohmann::ordered_json to_json(const Tally& tally) {
    return {
        {"supported", tally.supported}, {"contradicted", tally.contradicted}, {"undecided", tally.undecided}};
}

Judgement judge(const Verdicts& verdicts) {
    Judgement result{"undecided", {}, {}, {}};
    for (const auto& [dimensions, verdict] : verdicts) {
        result.tally.add(verdict);
        for (const auto& [dimension, value] : dimensions) result.by[dimension][value].add(verdict);
    }
    const Tally& tally = result.tally;
    if (tally.supported > 0 && tally.contradicted > 0) {
        result.verdict = "depends on";
        result.depends_on = explain(verdicts);
    } else if (tally.supported + tally.contradicted > tally.undecided) {
        result.verdict = name_of(tally.supported > 0 ? Verdict::kSupported : Verdict::kContradicted);
    }
    return result;
}

}  // namespace pastur
