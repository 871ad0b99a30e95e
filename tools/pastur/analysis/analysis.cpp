#include "tools/pastur/analysis/analysis.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "engine/model/recipe.h"
#include "tools/pastur/analysis/attribution.h"
#include "tools/pastur/analysis/findings.h"
#include "tools/pastur/analysis/sentences.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;
using Bounds = ClaimBounds;

constexpr int kVersion = 1;

Json rules_text() {
    return {
        {"onset",
         "A form is beyond a threshold from the first of two measurements in succession that are; if these are "
         "the first two of the run, it is so from the start and has no onset. Measurements that are not finite "
         "are skipped, and less than three show no onset."},
        {"kept",
         "Shares of the stable rank at step 0 or of the one that the product null expects, as means over the "
         "layers or heads. The least and the final value leave out the first measurement."},
        {"coincidence",
         "Forms with both onsets, of those with either. In rank correlations an onset that did not occur "
         "ranks after all that did; forms with neither, and those beyond from the start, are left out. p "
         "is the share of shuffled pairs with a correlation as large."},
        {"interval",
         "95 % by Student's t over seeds, Welch's for differences. Seeds that agree exactly, as shares of 0 or 1 may, "
         "have an interval of no width."},
        {"claim",
         "Supported if the whole interval lies on its side of the bound, contradicted if all of it lies on the "
         "other, else undecided; one seed has no interval. A correlation is supported only if p is below "
         "chance."},
        {"choice",
         "A finding under one choice of what is looked at: contradicted if one of its claims is, supported if "
         "all are, else undecided."},
        {"finding",
         "Choices on both sides: it depends on the fewest dimensions that determine the side, the one that "
         "says most first. One side alone: that verdict, if more than half of the choices are decided. Else "
         "undecided."}};
}

Json rules_json() {
    return {{"spike", AnalysisRules::kSpikes},
            {"collapse", AnalysisRules::kCollapses},
            {"early_fraction", AnalysisRules::kEarlyFraction},
            {"lag_spike", AnalysisRules::kLagSpike},
            {"shuffles", kShuffles},
            {"early_share", Bounds::kEarlyShare},
            {"specific_layers", Bounds::kSpecificLayers},
            {"stays", Bounds::kStays},
            {"correlation", Bounds::kCorrelation},
            {"chance", Bounds::kChance},
            {"overlap_ratio", Bounds::kOverlapRatio},
            {"together", Bounds::kTogether},
            {"lag_measurements", Bounds::kLag},
            {"text", rules_text()}};
}

}  // namespace

Json analyse(const std::vector<RunStatistics>& runs) {
    const std::vector<RunGroup> groups = group_runs(runs);
    Json analysis = {{"v", kVersion}, {"rules", rules_json()}, {"groups", Json::array()}};
    for (const RunGroup& group : groups) analysis["groups"].push_back(to_json(group));
    analysis["attribution"] = attribution_json(groups);
    analysis["findings"] = Json::array();
    for (const Finding& finding : evaluate_findings(groups)) analysis["findings"].push_back(to_json(finding));
    for (size_t i = 0; i < analysis["findings"].size(); ++i)
        analysis["findings"][i]["because"] = because_json(analysis, i);
    analysis["sentences"] = sentences_json(analysis);
    return analysis;
}

void add_settings(RunStatistics& run, const Config& config) {
    // What a run is called and how it is stored and measured does not decide its results; nor does the micro-batch,
    // which follows the number of ranks.
    const std::set<std::string> others = {"run", "hw", "checkpoint", "diagnostics"};
    for (const Field& field : config_fields())
        if (!others.contains(field.section) && field.path() != "train.seed" &&
            field.path() != "train.micro_batch" && field.path() != "attention.variant")
            run.settings[field.path()] = value_text(field, config);
    run.steps = config.train.steps;
}

void name_arms(std::vector<RunStatistics>& runs) {
    std::set<std::string> different;
    for (const RunStatistics& run : runs)
        for (const RunStatistics& other : runs)
            if (run.variant == other.variant && !other.settings.empty())
                for (const auto& [key, value] : run.settings)
                    if (const auto found = other.settings.find(key);
                        found != other.settings.end() && found->second != value)
                        different.insert(key);
    for (RunStatistics& run : runs) {
        std::string arm;
        for (const std::string& key : different)
            if (const auto found = run.settings.find(key); found != run.settings.end())
                arm += fmt::format("{}{}={}", arm.empty() ? "" : ",", key.substr(key.find('.') + 1),
                                   found->second);
        std::erase(arm, '"');
        run.arm = arm;
    }
}

std::string verdict_text(const Json& analysis) {
    std::string text;
    for (const Json& finding : analysis.at("findings")) {
        std::string verdict = finding.at("verdict");
        for (size_t i = 0; i < finding.at("depends_on").size(); ++i)
            verdict += (i == 0 ? " " : ", ") + finding.at("depends_on")[i].get<std::string>();
        text += fmt::format("{}. {}: {}. {}\n", finding.at("id").get<std::string>(),
                            finding.at("claim").get<std::string>(), verdict,
                            finding.at("because").at("text").get<std::string>());
    }
    return text;
}

}  // namespace pastur
