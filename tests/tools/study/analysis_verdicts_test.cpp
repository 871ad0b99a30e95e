// Verdicts on the findings, on planted and on random spectra.
#include "tools/pastur/analysis/verdicts.h"

#include <gtest/gtest.h>

#include "kernels/base/random.h"
#include "tests/support/planted_run.h"
#include "tools/pastur/analysis/analysis.h"

namespace pastur::test {
namespace {

using Json = nlohmann::ordered_json;
using List = std::vector<std::string>;

TEST(Verdict, IsDecidedByTheWholeInterval) {
    const MeanAndInterval value{3, 0.5, 0.4, 0.6}, one{1, 0.5};
    EXPECT_EQ(is_above(value, 0.3), Verdict::kSupported);
    EXPECT_EQ(is_above(value, 0.7), Verdict::kContradicted);
    EXPECT_EQ(is_above(value, 0.5), Verdict::kUndecided);
    EXPECT_EQ(is_below(value, 0.7), Verdict::kSupported);
    EXPECT_EQ(is_below(value, 0.3), Verdict::kContradicted);
    EXPECT_EQ(is_within(value, 0.6), Verdict::kSupported);
    EXPECT_EQ(is_within(value, 0.3), Verdict::kContradicted);
    EXPECT_EQ(is_within(value, 0.5), Verdict::kUndecided);
    EXPECT_EQ(is_outside({3, -0.5, -0.6, -0.4}, 0.3), Verdict::kSupported);
    EXPECT_EQ(is_outside(value, 0.6), Verdict::kContradicted);
    for (const double bound : {0.0, 1.0}) {
        EXPECT_EQ(is_above(one, bound), Verdict::kUndecided);
        EXPECT_EQ(is_below({}, bound), Verdict::kUndecided);
        EXPECT_EQ(is_within(one, bound), Verdict::kUndecided);
    }
    EXPECT_EQ(all_of({}), Verdict::kUndecided);
    EXPECT_EQ(all_of({Verdict::kSupported, Verdict::kUndecided}), Verdict::kUndecided);
    EXPECT_EQ(all_of({Verdict::kSupported, Verdict::kUndecided, Verdict::kContradicted}),
              Verdict::kContradicted);
    EXPECT_EQ(all_of({Verdict::kSupported}), Verdict::kSupported);
}

/// The judgement of choices over null, matrix and scope.
Judgement judge_by(const std::function<Verdict(int null, int matrix, int scope)>& verdict) {
    Verdicts verdicts;
    for (int null = 0; null < 3; ++null)
        for (int matrix = 0; matrix < 2; ++matrix)
            for (int scope = 0; scope < 2; ++scope)
                verdicts.push_back({{{"null", std::to_string(null)},
                                     {"matrix", std::to_string(matrix)},
                                     {"scope", std::to_string(scope)}},
                                    verdict(null, matrix, scope)});
    return judge(verdicts);
}

TEST(Judgement, NamesTheDimensionsThatDetermineTheSide) {
    using enum Verdict;
    EXPECT_EQ(judge_by([](int, int, int) { return kSupported; }).verdict, "supported");
    EXPECT_EQ(judge_by([](int, int, int) { return kContradicted; }).verdict, "contradicted");
    EXPECT_EQ(judge_by([](int, int, int) { return kUndecided; }).verdict, "undecided");
    const Judgement by_null =
        judge_by([](int null, int, int) { return null == 1 ? kSupported : kContradicted; });
    EXPECT_EQ(by_null.verdict, "depends on");
    EXPECT_EQ(by_null.depends_on, List{"null"});
    EXPECT_EQ(by_null.by.at("null").at("1").supported, 4);
    EXPECT_EQ(by_null.by.at("matrix").at("0").contradicted, 4);
    EXPECT_EQ(by_null.tally.supported, 4);
    EXPECT_EQ(judge_by([](int, int matrix, int scope) {
                  return scope == 1 && matrix == 1 ? kSupported : kContradicted;
              }).depends_on,
              (List{"matrix", "scope"}));
    // The matrix says more about the side than the null does.
    EXPECT_EQ(judge_by([](int null, int matrix, int) {
                  return matrix == 0 || null == 2 ? kSupported : kContradicted;
              }).depends_on,
              (List{"matrix", "null"}));
    EXPECT_EQ(judge_by([](int null, int matrix, int) {
                  return null == 0 ? kUndecided : matrix == 0 ? kSupported : kContradicted;
              }).depends_on,
              List{"matrix"});
    EXPECT_EQ(judge_by([](int null, int, int) { return null == 0 ? kSupported : kUndecided; }).verdict,
              "undecided")
        << "four of twelve choices decide nothing";
    EXPECT_EQ(judge({}).verdict, "undecided");
}

/// Runs of the variants with as many seeds each.
std::vector<RunStatistics> study(std::initializer_list<PlantedRun> runs, uint64_t seeds = 3) {
    std::vector<RunStatistics> all;
    for (const PlantedRun& run : runs)
        for (RunStatistics& one : planted_seeds(run, seeds)) all.push_back(std::move(one));
    return all;
}

Json finding(const std::vector<RunStatistics>& runs, const std::string& id) {
    const Json analysis = analyse(runs);
    for (const Json& one : analysis.at("findings"))
        if (one.at("id") == id) return one;
    return {};
}

void expect_verdict(const Json& finding, const std::string& verdict, const List& depends_on = {}) {
    EXPECT_EQ(finding.at("verdict"), verdict) << finding.at("because").at("text");
    EXPECT_EQ(finding.at("depends_on"), Json(depends_on)) << finding.at("because").at("text");
}

/// The first three of eight layers spike one after the other and stay beyond the edge.
PlantedForm travelling(const std::string&, int64_t layer, int64_t) {
    return {.spike = layer < 3 ? 10 * (layer + 1) : -1};
}

TEST(FindingOfSpikes, IsSupportedWhereTheyArePlanted) {
    PlantedRun mha{.form = travelling}, prerope{.variant = "mla-prerope", .form = travelling};
    expect_verdict(finding(study({mha, prerope}), "i"), "supported");
    expect_verdict(finding(study({mha, prerope}, 1), "i"), "undecided");
    expect_verdict(finding(study({mha, prerope}, 2), "i"), "supported");
    expect_verdict(finding(study({mha}), "i"), "undecided");  // the other variant is part of the claim
    // In one arm they are there, in another not.
    PlantedRun mha_short{.arm = "short"}, prerope_short{.variant = "mla-prerope", .arm = "short"};
    expect_verdict(finding(study({mha, prerope, mha_short, prerope_short}), "i"), "depends on", {"arm"});
}

TEST(FindingOfSpikes, IsContradictedByEveryPartOfTheClaim) {
    const auto with = [&](const PlantedRun::Form& form) {
        return finding(study({{.form = travelling}, {.variant = "mla-prerope", .form = form}}), "i");
    };
    const auto claim = [](const Json& finding, const std::string& id) {
        for (const Json& one : finding.at("claims"))
            if (one.at("id") == id) return one.at("verdict").get<std::string>();
        return std::string();
    };
    Json none = with([](const std::string&, int64_t, int64_t) { return PlantedForm{}; });
    expect_verdict(none, "contradicted");
    EXPECT_EQ(claim(none, "early:mla-prerope"), "contradicted");
    EXPECT_EQ(claim(none, "specific:mla-prerope"), "undecided");
    EXPECT_EQ(claim(none, "early:mha"), "supported");
    const Json everywhere = with([](const std::string&, int64_t layer, int64_t) {
        return PlantedForm{.spike = 10 * (1 + layer / 2)};
    });
    expect_verdict(everywhere, "contradicted");
    EXPECT_EQ(claim(everywhere, "specific:mla-prerope"), "contradicted");
    const Json passing = with([](const std::string& matrix, int64_t layer, int64_t head) {
        PlantedForm form = travelling(matrix, layer, head);
        form.spike_end = 200;
        return form;
    });
    expect_verdict(passing, "contradicted");
    EXPECT_EQ(claim(passing, "persist:mla-prerope"), "contradicted");
    const Json late = with([](const std::string&, int64_t layer, int64_t) {
        return PlantedForm{.spike = layer < 3 ? 100 : -1};
    });
    EXPECT_EQ(claim(late, "early:mla-prerope"), "contradicted");
    const Json standing = with([](const std::string&, int64_t layer, int64_t) {
        return PlantedForm{.spike = layer == 1 || layer == 4 || layer == 6 ? 20 : -1};
    });
    EXPECT_EQ(claim(standing, "travel:mla-prerope"), "contradicted");
    expect_verdict(standing, "contradicted");
}

TEST(FindingOfSpikes, DependsOnWhatItWasMeasuredAgainst) {
    PlantedRun mha{.form = travelling}, prerope{.variant = "mla-prerope", .form = travelling};
    for (PlantedRun* run : {&mha, &prerope}) {
        run->nulls = {"mp", "product", "profile", "permuted"};
        run->blind_nulls = {"product", "permuted"};
    }
    const Json by_null = finding(study({mha, prerope}), "i");
    expect_verdict(by_null, "depends on", {"null"});
    EXPECT_EQ(by_null.at("by").at("null").at("mp").at("supported"), 4);  // two scopes, two thresholds
    EXPECT_EQ(by_null.at("by").at("null").at("product").at("contradicted"), 4);

    const auto whole_only = [](const std::string& matrix, int64_t layer, int64_t head) {
        return matrix == "qk" ? travelling(matrix, layer, head) : PlantedForm{};
    };
    PlantedRun mha_parts{.matrices = {"qk", "qk@mean"}, .form = whole_only};
    PlantedRun prerope_parts = mha_parts;
    prerope_parts.variant = "mla-prerope";
    expect_verdict(finding(study({mha_parts, prerope_parts}), "i"), "depends on", {"matrix"});

    const auto heads_only = [](const std::string& matrix, int64_t layer, int64_t head) {
        return head >= 0 ? travelling(matrix, layer, head) : PlantedForm{};
    };
    expect_verdict(
        finding(study({{.form = heads_only}, {.variant = "mla-prerope", .form = heads_only}}), "i"),
        "depends on", {"scope"});
}

/// Every other form spikes, at a step of its own, and collapses `lag` measurements after another form's spike.
PlantedRun coinciding(const std::string& variant, int64_t lag, bool same_form = true) {
    PlantedRun run{.variant = variant, .layers = 16, .heads = 4};
    run.measured.clear();
    for (int64_t step = 0; step <= 800; step += 10) run.measured.push_back(step);
    run.form = [=](const std::string&, int64_t layer, int64_t head) {
        if (layer % 4 == 3) return PlantedForm{};
        const int64_t spike = 200 + 10 * ((7 * layer + 3 * head + 3) % 16);
        const int64_t other = 200 + 10 * ((5 * layer + 11 * head + 40) % 16);
        return PlantedForm{.spike = spike, .collapse = (same_form ? spike : other) + 10 * lag, .kept = 0.05};
    };
    return run;
}

TEST(FindingOfCoincidence, IsJudgedByLagAndOrder) {
    const auto of = [](const PlantedRun& mha, const PlantedRun& prerope, uint64_t seeds = 3) {
        return finding(study({mha, prerope}, seeds), "ii");
    };
    const PlantedRun mha = coinciding("mha", 1);
    expect_verdict(of(mha, coinciding("mla-prerope", 1)), "supported");
    expect_verdict(of(mha, coinciding("mla-prerope", -2)), "supported");
    expect_verdict(of(mha, coinciding("mla-prerope", 6)), "contradicted");
    expect_verdict(of(mha, coinciding("mla-prerope", -6)), "contradicted");
    expect_verdict(of(mha, coinciding("mla-prerope", 0, false)), "contradicted");
    expect_verdict(of(mha, coinciding("mla-prerope", 1), 1), "undecided");
    PlantedRun apart = coinciding("mla-prerope", 1);
    apart.form = [](const std::string&, int64_t layer, int64_t) {
        return layer % 2 == 0 ? PlantedForm{.spike = 200 + 10 * layer}
                              : PlantedForm{.collapse = 200 + 10 * layer};
    };
    expect_verdict(of(mha, apart), "contradicted");
    // What keeps a fifth collapses below a half and a quarter, but not below a tenth.
    PlantedRun shallow = coinciding("mla-prerope", 1);
    shallow.form = [form = shallow.form](const std::string& matrix, int64_t layer, int64_t head) {
        PlantedForm planted = form(matrix, layer, head);
        planted.kept = 0.2;
        return planted;
    };
    expect_verdict(of(mha, shallow), "depends on", {"threshold"});
}

PlantedRun keeping(const std::string& variant, std::function<double(const std::string& matrix)> kept) {
    return {.variant = variant,
            .matrices = variant == "mla-decoupled" ? List{"qk", "qk_content", "qk_rope"} : List{"qk"},
            .form = [kept](const std::string& matrix, int64_t, int64_t) {
                return PlantedForm{.collapse = 20, .kept = kept(matrix)};
            }};
}
PlantedRun keeping(const std::string& variant, double kept) {
    return keeping(variant, [kept](const std::string&) { return kept; });
}

TEST(FindingOfPrevention, IsJudgedByKeptRanks) {
    const PlantedRun mha = keeping("mha", 0.05), prerope = keeping("mla-prerope", 0.03);
    const auto with = [&](const PlantedRun& decoupled, uint64_t seeds = 3) {
        return finding(study({mha, prerope, decoupled}, seeds), "iii");
    };
    const Json supported = with(keeping("mla-decoupled", 0.8));
    expect_verdict(supported, "supported");
    EXPECT_EQ(supported.at("tally").at("supported"),
              3 * 2 * 2 * 2 * 3);  // matrix, scope, baseline, moment, threshold
    expect_verdict(with(keeping("mla-decoupled", 0.8), 1), "undecided");
    expect_verdict(with(keeping("mla-decoupled", 0.04)), "contradicted");
    expect_verdict(
        with(keeping("mla-decoupled",
                     [](const std::string& matrix) { return matrix == "qk_content" ? 0.8 : 0.04; })),
        "depends on", {"matrix"});
    expect_verdict(with(keeping("mla-decoupled", 0.34)), "depends on", {"threshold"});
    expect_verdict(finding(study({mha, prerope}), "iii"), "undecided");
    expect_verdict(finding(study({mha, keeping("mla-decoupled", 0.8)}), "iii"), "undecided");
    // "Only": another variant of the paper that keeps as much contradicts it, one that the paper lacks does not.
    expect_verdict(finding(study({mha, keeping("mla-prerope", 0.8), keeping("mla-decoupled", 0.8)}), "iii"),
                   "contradicted");
    const Json more =
        finding(study({mha, prerope, keeping("mla-decoupled", 0.8), keeping("mla-rope", 0.8)}), "iii");
    expect_verdict(more, "supported");
    EXPECT_EQ(more.at("claims").back().at("id"), "collapses:mla-rope");
    for (const Json& claim : more.at("claims"))
        if (claim.at("id") == "collapses:mla-rope") {
            EXPECT_EQ(claim.at("verdict"), "contradicted");
            EXPECT_FALSE(claim.at("counts").get<bool>());
        }
    // Seeds that disagree decide nothing.
    std::vector<RunStatistics> runs = study({mha, prerope});
    for (const double kept : {0.02, 0.3, 0.9}) {
        PlantedRun decoupled = keeping("mla-decoupled", kept);
        decoupled.seed = static_cast<uint64_t>(kept * 100);
        runs.push_back(planted_statistics(decoupled));
    }
    expect_verdict(finding(runs, "iii"), "undecided");
}

// Onsets and kept ranks that are drawn independently: nothing specific, ordered, coincident or prevented in them.
TEST(Findings, AreNotSupportedByRandomSpectra) {
    for (uint64_t trial = 0; trial < 12; ++trial)
        for (const double chance : {0.0, 0.2, 0.6}) {
            std::vector<RunStatistics> runs;
            for (const char* variant : {"mha", "mla-prerope", "mla-decoupled"})
                for (uint64_t seed = 1; seed <= 4; ++seed) {
                    PlantedRun run{.variant = variant, .seed = seed + 100 * trial, .noise = 0.4};
                    run.form = [&](const std::string&, int64_t layer, int64_t head) {
                        SplitMix random(run.seed * 1000 + static_cast<uint64_t>(layer * 10 + head + 1),
                                        std::hash<std::string>{}(variant));
                        const auto step = [&] {
                            if (!random.chance(static_cast<uint64_t>(chance * 100))) return int64_t{-1};
                            return run.measured[1 + random.below(run.measured.size() - 3)];
                        };
                        const int64_t spike = step();
                        return PlantedForm{.spike = spike, .collapse = step(), .kept = 0.05};
                    };
                    runs.push_back(planted_statistics(run));
                }
            const Json analysis = analyse(runs);
            for (const Json& one : analysis.at("findings"))
                EXPECT_NE(one.at("verdict"), "supported")
                    << trial << " " << chance << " " << one.at("claim") << one.at("because").at("text");
        }
}

TEST(Attribution, ComparesNeighboursInTheFactorial) {
    std::vector<RunStatistics> runs = study({keeping("mha", 0.5), keeping("mla-rope", 0.3),
                                             keeping("mla-prerope", 0.1), keeping("mla-decoupled", 0.4)});
    PlantedRun gain = keeping("mla-decoupled", 0.7);
    gain.arm = "gain";
    for (RunStatistics& run : runs) run.settings = {{"attention.latent_gain", "none"}, {"train.lr", "0.001"}};
    for (RunStatistics& run : planted_seeds(gain, 3)) {
        run.settings = {{"attention.latent_gain", "sqrt"}, {"train.lr", "0.001"}};
        runs.push_back(std::move(run));
    }
    const auto difference = [](const Json& analysis, const std::string& from, const std::string& to,
                               const std::string& matrix, const std::string& statistic) {
        for (const Json& one : analysis.at("attribution"))
            if (one.at("from").at("variant") == from && one.at("to").at("variant") == to &&
                one.at("matrix") == matrix && one.at("statistic") == statistic && one.at("scope") != "head")
                return one.at("difference").at("mean").get<double>();
        return std::numeric_limits<double>::quiet_NaN();
    };
    const Json analysis = analyse(runs);
    EXPECT_NEAR(difference(analysis, "mha", "mla-rope", "qk", "kept.step0.least"), -0.2, 0.03);
    EXPECT_NEAR(difference(analysis, "mla-rope", "mla-prerope", "qk", "kept.step0.final"), -0.2, 0.03);
    EXPECT_NEAR(difference(analysis, "mla-rope", "mla-decoupled", "qk_content", "kept.null.least"), 0.09,
                0.03);
    EXPECT_NEAR(difference(analysis, "mla-decoupled", "mla-decoupled", "qk", "kept.step0.least"), 0.3, 0.05);
    EXPECT_EQ(difference(analysis, "mha", "mla-rope", "", "val_loss"), 0);
    EXPECT_TRUE(std::isnan(difference(analysis, "mha-nope", "mha", "qk", "kept.step0.least")));
    // An arm that differs in something else says nothing about the gain.
    runs.back().settings["train.lr"] = "0.01";
    EXPECT_TRUE(
        std::isnan(difference(analyse(runs), "mla-decoupled", "mla-decoupled", "qk", "kept.step0.least")));
}

}  // namespace
}  // namespace pastur::test
