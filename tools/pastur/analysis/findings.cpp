#include "tools/pastur/analysis/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

namespace pastur {
namespace {

using Key = RunSeries::Key;
using Bounds = ClaimBounds;

constexpr const char* kSpiking[] = {"mha", "mla-prerope"};
constexpr const char* kPreventing = "mla-decoupled";
/// Matrices of the variants without parts.
constexpr const char* kWholeMatrices[] = {"qk", "qk_literal", "qk@mean"};

/// The groups of one arm.
class ArmGroups {
  public:
    ArmGroups(std::span<const RunGroup> groups, std::string arm) : groups_(groups), arm_(std::move(arm)) {}
    const std::string& arm() const { return arm_; }
    /// In this arm, else in the variant's first; null if there is none with spectra.
    const RunGroup* find(const std::string& variant) const {
        const RunGroup* first = nullptr;
        for (const RunGroup& group : groups_) {
            if (group.variant != variant || keys_of(group).empty()) continue;
            if (group.arm == arm_) return &group;
            if (!first) first = &group;
        }
        return first;
    }
    bool has_own(const std::string& variant) const {
        return std::any_of(groups_.begin(), groups_.end(), [&](const RunGroup& group) {
            return group.variant == variant && group.arm == arm_ && !keys_of(group).empty();
        });
    }

  private:
    std::span<const RunGroup> groups_;
    std::string arm_;
};

/// The arms in which any of the variants has spectra of its own.
std::vector<ArmGroups> arms_of(std::span<const RunGroup> groups, std::span<const char* const> variants) {
    std::vector<ArmGroups> arms;
    for (const RunGroup& group : groups) {
        if (std::any_of(arms.begin(), arms.end(),
                        [&](const ArmGroups& arm) { return arm.arm() == group.arm; }))
            continue;
        const ArmGroups arm(groups, group.arm);
        if (std::any_of(variants.begin(), variants.end(),
                        [&](const char* variant) { return arm.has_own(variant); }))
            arms.push_back(arm);
    }
    return arms;
}

/// A correlation counts as shown only beyond what shuffled pairs give.
Verdict unless_chance(Verdict verdict, double p) {
    return verdict == Verdict::kSupported && !(p < Bounds::kChance) ? Verdict::kUndecided : verdict;
}

/// Calls use(key, null) for every matrix, scope and null that all of these groups have; null groups have all.
void for_each_measured(std::span<const RunGroup* const> groups,
                       const std::function<void(const Key&, const std::string&)>& use) {
    for (const char* matrix : kWholeMatrices)
        for (const bool per_head : {false, true})
            for (const std::string null : kAnalysedNulls) {
                const Key key{matrix, per_head};
                bool all = true, any = false;
                for (const RunGroup* group : groups) {
                    if (!group) continue;
                    const std::vector<std::string> nulls = nulls_of(*group, key);
                    all = all && std::find(nulls.begin(), nulls.end(), null) != nulls.end();
                    any = true;
                }
                if (all && any) use(key, null);
            }
}

/// Whether the claim's value is among the statistics of its group.
bool has_figure(const Finding& finding, const std::string& id) {
    return std::any_of(finding.claims.begin(), finding.claims.end(),
                       [&](const ClaimText& claim) { return claim.id() == id && !claim.figure.empty(); });
}

/// Sets the verdict of the choice from its claims that count.
void decide(Finding& finding, ChoiceVerdict& choice) {
    std::vector<Verdict> verdicts;
    for (const ClaimValue& claim : choice.claims)
        for (const ClaimText& text : finding.claims)
            if (text.id() == claim.id && text.counts) verdicts.push_back(claim.verdict);
    choice.verdict = all_of(verdicts);
    finding.choices.push_back(std::move(choice));
}

/// The overlap with the next layer over that of random directions, of each run.
MeanAndInterval overlap_ratio(const RunGroup& group, const Key& key) {
    std::vector<double> values = group.values(key, "next_layer_overlap/value");
    const std::vector<double> random = group.values(key, "next_layer_overlap/random");
    for (size_t i = 0; i < values.size(); ++i) values[i] /= random[i];
    return mean_over_seeds(values);
}

void add_spike_claims(const std::string& variant, const RunGroup* group, const Key& key,
                      const std::string& null, double edges, std::vector<ClaimValue>& claims) {
    const std::string at = "nulls/" + null, spike = at + "/spike/" + threshold_key(edges) + "/";
    const auto mean = [&](const char* figure) {
        return group ? group->mean(key, spike + figure) : MeanAndInterval{};
    };
    const MeanAndInterval early = mean("early_share"), layers = mean("layers"), stays = mean("stays");
    const Verdict is_early = is_above(early, Bounds::kEarlyShare);
    claims.push_back({"early:" + variant, is_early, early});
    // Without early spikes it is not said where they are.
    claims.push_back(
        {"specific:" + variant,
         is_early == Verdict::kSupported ? is_below(layers, Bounds::kSpecificLayers) : Verdict::kUndecided,
         layers});
    claims.push_back({"persist:" + variant, is_above(stays, Bounds::kStays), stays});
    const CorrelationTest depth = group ? group->correlation(key, at + "/onset_depth") : CorrelationTest{};
    claims.push_back({"travel:" + variant,
                      unless_chance(is_outside(depth.rho, Bounds::kCorrelation), depth.p), depth.rho});
    if (!group) return;
    if (const MeanAndInterval overlap = overlap_ratio(*group, key); overlap.count > 0)
        claims.push_back({"directions:" + variant, is_above(overlap, Bounds::kOverlapRatio), overlap});
}

Finding finding_spikes(std::span<const RunGroup> groups) {
    Finding finding{
        "i", "Sharp early spikes in specific layers of MHA and MLA-PreRoPE persist and propagate", {}, {}};
    for (const char* variant : kSpiking) {
        const std::string spike = "nulls/{null}/spike/{threshold}/";
        const auto claim = [&](const char* what, const std::string& text, const std::string& figure) {
            finding.claims.push_back({what, variant, text, figure});
        };
        claim(
            "early",
            fmt::format("more than {:g} % of the forms of {} have an onset in the first {:g} % of the steps",
                        Bounds::kEarlyShare * 100, variant, AnalysisRules::kEarlyFraction * 100),
            spike + "early_share");
        claim("specific", fmt::format("these are in less than half of the layers of {}", variant),
              spike + "layers");
        claim("persist",
              fmt::format("most forms of {} with an onset are beyond at all later measurements", variant),
              spike + "stays");
        claim("travel",
              fmt::format("the layers' onsets in {} are ordered by depth (rank correlation beyond {:g})",
                          variant, Bounds::kCorrelation),
              "nulls/{null}/onset_depth/rho");
        claim("directions",
              fmt::format(
                  "neighbouring layers of {} share more than {:g} times the directions that random ones do",
                  variant, Bounds::kOverlapRatio),
              "");
    }
    for (const ArmGroups& arm : arms_of(groups, kSpiking)) {
        const RunGroup* const chosen[] = {arm.find(kSpiking[0]), arm.find(kSpiking[1])};
        for_each_measured(chosen, [&](const Key& key, const std::string& null) {
            for (const double edges : {2.0, 10.0}) {
                ChoiceVerdict choice{{{"arm", arm.arm()},
                                      {"null", null},
                                      {"matrix", key.matrix},
                                      {"scope", scope_of(key)},
                                      {"threshold", threshold_key(edges)}},
                                     {}};
                for (size_t i = 0; i < std::size(kSpiking); ++i)
                    add_spike_claims(kSpiking[i], chosen[i], key, null, edges, choice.claims);
                decide(finding, choice);
            }
        });
    }
    return finding;
}

void add_lag_claims(const std::string& variant, const RunGroup* group, const Key& key,
                    const std::string& place, std::vector<ClaimValue>& claims) {
    const auto mean = [&](const char* figure) {
        return group ? group->mean(key, place + figure) : MeanAndInterval{};
    };
    const MeanAndInterval both = mean("/both"), lag = mean("/measurements");
    const CorrelationTest test = group ? group->correlation(key, place) : CorrelationTest{};
    claims.push_back({"together:" + variant, is_above(both, Bounds::kTogether), both});
    claims.push_back({"lag:" + variant, is_within(lag, Bounds::kLag), lag});
    claims.push_back(
        {"order:" + variant, unless_chance(is_above(test.rho, Bounds::kCorrelation), test.p), test.rho});
}

Finding finding_coincidence(std::span<const RunGroup> groups) {
    Finding finding{"ii", "The spikes coincide with rank collapse", {}, {}};
    for (const char* variant : kSpiking) {
        const std::string lag = "nulls/{null}/lag/{threshold}/";
        finding.claims.push_back(
            {"together", variant,
             fmt::format("most forms of {} with a spike or a collapse have both", variant), lag + "both"});
        finding.claims.push_back(
            {"lag", variant,
             fmt::format("they start within {:g} measurements of each other in {} (median)", Bounds::kLag,
                         variant),
             lag + "measurements"});
        finding.claims.push_back(
            {"order", variant,
             fmt::format("forms of {} that spike earlier collapse earlier (rank correlation above {:g})",
                         variant, Bounds::kCorrelation),
             lag + "rho"});
    }
    for (const ArmGroups& arm : arms_of(groups, kSpiking)) {
        const RunGroup* const chosen[] = {arm.find(kSpiking[0]), arm.find(kSpiking[1])};
        for_each_measured(chosen, [&](const Key& key, const std::string& null) {
            for (const double fraction : AnalysisRules::kCollapses) {
                const std::string threshold = threshold_key(fraction);
                ChoiceVerdict choice{{{"arm", arm.arm()},
                                      {"null", null},
                                      {"matrix", key.matrix},
                                      {"scope", scope_of(key)},
                                      {"threshold", threshold}},
                                     {}};
                for (size_t i = 0; i < std::size(kSpiking); ++i)
                    add_lag_claims(kSpiking[i], chosen[i], key, "nulls/" + null + "/lag/" + threshold,
                                   choice.claims);
                decide(finding, choice);
            }
        });
    }
    return finding;
}

/// The form of a variant that is compared with a matrix of another: of the same name, else the whole.
std::optional<Key> matched(const RunGroup& group, const Key& key) {
    if (group.has(key)) return key;
    const Key whole{"qk", key.per_head};
    return group.has(whole) ? std::optional(whole) : std::nullopt;
}

bool is_of_paper(const std::string& variant) {
    return std::find(std::begin(kSpiking), std::end(kSpiking), variant) != std::end(kSpiking);
}

/// Variants with spectra other than the one that prevents the collapse, those of the paper first.
std::vector<std::string> others_of(std::span<const RunGroup> groups) {
    std::vector<std::string> variants(std::begin(kSpiking), std::end(kSpiking));
    for (const RunGroup& group : groups)
        if (group.variant != kPreventing && !keys_of(group).empty() &&
            std::find(variants.begin(), variants.end(), group.variant) == variants.end())
            variants.push_back(group.variant);
    return variants;
}

void add_kept_claims(const ArmGroups& arm, const std::vector<std::string>& others, const Key& key,
                     const std::string& figure, double threshold, std::vector<ClaimValue>& claims) {
    const RunGroup& preventing = *arm.find(kPreventing);
    const MeanAndInterval kept = preventing.mean(key, figure);
    claims.push_back({std::string("keeps:") + kPreventing, is_above(kept, threshold), kept});
    for (const std::string& variant : others) {
        const RunGroup* const group = arm.find(variant);
        const std::optional<Key> own = group ? matched(*group, key) : std::nullopt;
        const MeanAndInterval other = own ? group->mean(*own, figure) : MeanAndInterval{};
        claims.push_back({"collapses:" + variant, is_below(other, threshold), other});
        if (!is_of_paper(variant)) continue;
        const MeanAndInterval more =
            own ? difference_of_means(group->values(*own, figure), preventing.values(key, figure))
                : MeanAndInterval{};
        claims.push_back({"more:" + variant, is_above(more, 0), more});
    }
}

Finding finding_prevention(std::span<const RunGroup> groups) {
    Finding finding{"iii", "Only MLA-Decoupled prevents the collapse", {}, {}};
    const std::vector<std::string> others = others_of(groups);
    const std::string figure_of_kept = "kept/{baseline}/{moment}";
    finding.claims.push_back(
        {"keeps", kPreventing, fmt::format("{} keeps more than the threshold", kPreventing), figure_of_kept});
    for (const std::string& variant : others) {
        finding.claims.push_back({"collapses", variant,
                                  fmt::format("{} keeps less than the threshold", variant), figure_of_kept,
                                  is_of_paper(variant)});
        if (is_of_paper(variant))
            finding.claims.push_back(
                {"more", variant, fmt::format("{} keeps more than {}", kPreventing, variant), "", false});
    }
    const char* const variants[] = {kPreventing, kSpiking[0], kSpiking[1]};
    for (const ArmGroups& arm : arms_of(groups, variants)) {
        const RunGroup* const preventing = arm.find(kPreventing);
        if (!preventing) continue;
        for (const Key& key : keys_of(*preventing)) {
            if (key.matrix == kControlMatrix) continue;
            for (const char* baseline : {"step0", "null"})
                for (const char* moment : {"least", "final"})
                    for (const double threshold : AnalysisRules::kCollapses) {
                        const std::string figure = fmt::format("kept/{}/{}", baseline, moment);
                        if (preventing->mean(key, figure).count == 0) continue;
                        ChoiceVerdict choice{{{"arm", arm.arm()},
                                              {"matrix", key.matrix},
                                              {"scope", scope_of(key)},
                                              {"baseline", baseline},
                                              {"moment", moment},
                                              {"threshold", threshold_key(threshold)}},
                                             {}};
                        add_kept_claims(arm, others, key, figure, threshold, choice.claims);
                        decide(finding, choice);
                    }
        }
    }
    return finding;
}

}  // namespace

std::vector<Finding> evaluate_findings(std::span<const RunGroup> groups) {
    return {finding_spikes(groups), finding_coincidence(groups), finding_prevention(groups)};
}

nlohmann::ordered_json to_json(const Finding& finding) {
    using Json = nlohmann::ordered_json;
    Verdicts all;
    for (const ChoiceVerdict& choice : finding.choices) all.emplace_back(choice.dimensions, choice.verdict);
    const Judgement judgement = judge(all);
    Json json = {{"id", finding.id},
                 {"claim", finding.claim},
                 {"verdict", judgement.verdict},
                 {"depends_on", judgement.depends_on},
                 {"tally", to_json(judgement.tally)},
                 {"by", Json::object()},
                 {"claims", Json::array()},
                 {"choices", Json::array()}};
    for (const auto& [dimension, values] : judgement.by)
        for (const auto& [value, tally] : values) json["by"][dimension][value] = to_json(tally);
    for (const ClaimText& claim : finding.claims) {
        Verdicts own;
        for (const ChoiceVerdict& choice : finding.choices)
            for (const ClaimValue& value : choice.claims)
                if (value.id == claim.id()) own.emplace_back(choice.dimensions, value.verdict);
        const Judgement of_claim = judge(own);
        json["claims"].push_back({{"id", claim.id()},
                                  {"variant", claim.variant},
                                  {"text", claim.text},
                                  {"figure", claim.figure},
                                  {"verdict", of_claim.verdict},
                                  {"depends_on", of_claim.depends_on},
                                  {"tally", to_json(of_claim.tally)},
                                  {"counts", claim.counts}});
    }
    for (const ChoiceVerdict& choice : finding.choices) {
        Json one = Json::object(), claims = Json::object();
        for (const auto& [dimension, value] : choice.dimensions) one[dimension] = value;
        for (const ClaimValue& claim : choice.claims) {
            claims[claim.id]["verdict"] = name_of(claim.verdict);
            if (claim.value.count > 0 && !has_figure(finding, claim.id))
                claims[claim.id]["value"] = to_json(claim.value);
        }
        one["verdict"] = name_of(choice.verdict);
        one["claims"] = std::move(claims);
        json["choices"].push_back(std::move(one));
    }
    return json;
}

}  // namespace pastur
