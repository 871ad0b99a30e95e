// Intervals, rank correlations and the statistics of a run, on planted spectra.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/base/random.h"
#include "tests/support/planted_run.h"
#include "tools/pastur/analysis/intervals.h"
#include "tools/pastur/analysis/onset_rule.h"
#include "tools/pastur/analysis/rank_correlation.h"

namespace pastur::test {
namespace {

using nlohmann::json;

TEST(MeanOverSeeds, IsStudentsInterval) {
    // R: t.test(c(3.1, 3.4, 2.9, 3.3))$conf.int
    const double values[] = {3.1, 3.4, NAN, 2.9, 3.3};
    const MeanAndInterval result = mean_over_seeds(values);
    EXPECT_EQ(result.count, 4);
    EXPECT_NEAR(result.mean, 3.175, 1e-12);
    EXPECT_NEAR(result.high - result.mean, 3.1824 * std::sqrt(0.1475 / 3 / 4), 1e-4);
    EXPECT_NEAR(result.mean - result.low, result.high - result.mean, 1e-12);
    const double one[] = {2.0};
    EXPECT_EQ(mean_over_seeds(one).mean, 2);
    EXPECT_FALSE(mean_over_seeds(one).has_interval());
    EXPECT_TRUE(std::isnan(mean_over_seeds({}).mean));
    // Beyond the table: the quantile for 60 degrees of freedom is 2.0003.
    std::vector<double> many;
    for (int i = 0; i < 61; ++i) many.push_back(i % 2);
    const MeanAndInterval wide = mean_over_seeds(many);
    const double deviation = std::sqrt(30.0 * 31 / 61 / 60);
    EXPECT_NEAR((wide.high - wide.mean) / (deviation / std::sqrt(61.0)), 2.0003, 1e-3);
}

TEST(DifferenceOfMeans, IsWelchsInterval) {
    // scipy.stats.ttest_ind(to, from, equal_var=False): statistic -4.42282, df 4.084; with 4 the quantile is 2.77645.
    const double from[] = {3.1, 3.4, 2.9, 3.3}, to[] = {2.1, 2.6, NAN, 2.4};
    const MeanAndInterval result = difference_of_means(from, to);
    EXPECT_EQ(result.count, 3);
    EXPECT_NEAR(result.mean, -0.8083333, 1e-6);
    EXPECT_NEAR(result.high - result.mean, 2.77645 * 0.8083333 / 4.4228193, 1e-4);
    const double one[] = {1.0}, same[] = {2.0, 2.0};
    EXPECT_FALSE(difference_of_means(one, to).has_interval());
    EXPECT_EQ(difference_of_means(one, to).count, 1);
    EXPECT_EQ(difference_of_means(same, same).low, 0);
    EXPECT_EQ(difference_of_means({}, to).count, 0);
}

TEST(RankCorrelation, IsSpearmansWithTies) {
    // scipy.stats.spearmanr
    EXPECT_NEAR(rank_correlation({{1, 3}, {2, 1}, {2, 4}, {4, 4}, {5, 6}, {9, 5}}), 0.8088235294, 1e-9);
    EXPECT_NEAR(rank_correlation({{1, 9}, {2, 5}, {3, 1}}), -1, 1e-12);
    EXPECT_NEAR(rank_correlation({{1, 1}, {2, 2}, {INFINITY, INFINITY}}), 1, 1e-12);
    EXPECT_TRUE(std::isnan(rank_correlation({{1, 1}, {1, 2}, {1, 3}})));
    EXPECT_TRUE(std::isnan(rank_correlation({{1, 1}, {2, 2}})));
    EXPECT_TRUE(std::isnan(rank_correlation({})));
}

TEST(RankCorrelation, IsJudgedByShuffles) {
    Pairs ordered, other;
    SplitMix random(3);
    for (int i = 0; i < 40; ++i) {
        ordered.emplace_back(i, i + static_cast<double>(random.below(8)));
        other.emplace_back(i, static_cast<double>(random.below(1000)));
    }
    const Pairs* const runs[] = {&ordered, &ordered};
    const CorrelationTest test = test_correlation(runs, Tail::kUpper, 1);
    EXPECT_GT(test.rho.mean, 0.9);
    EXPECT_EQ(test.p, 1.0 / (kShuffles + 1));
    EXPECT_EQ(test_correlation(runs, Tail::kUpper, 1).p, test.p);
    Pairs reversed = ordered;
    for (auto& [x, y] : reversed) y = -y;
    const Pairs* const falling[] = {&reversed};
    EXPECT_EQ(test_correlation(falling, Tail::kUpper, 1).p, 1);
    EXPECT_LT(test_correlation(falling, Tail::kBoth, 1).p, 0.01);
    const Pairs* const unrelated[] = {&other};
    EXPECT_GT(test_correlation(unrelated, Tail::kBoth, 1).p, 0.05);
    EXPECT_TRUE(std::isnan(test_correlation({}, Tail::kBoth, 1).p));
}

TEST(RankCorrelation, ChanceIsUniformForUnrelatedPairs) {
    // p is uniform under the null: of 400 independent sets of pairs a share of about 5 % has p < 0.05.
    SplitMix random(11);
    int below = 0;
    for (int i = 0; i < 400; ++i) {
        Pairs pairs;
        for (int j = 0; j < 12; ++j) pairs.emplace_back(j, static_cast<double>(random.below(1u << 30)));
        const Pairs* const one[] = {&pairs};
        below += test_correlation(one, Tail::kUpper, 5).p < 0.05 ? 1 : 0;
    }
    EXPECT_GT(below, 8);
    EXPECT_LT(below, 36);  // binomial, 20 +- 4.4
}

TEST(Crossing, IsConfirmedByTheNextMeasurement) {
    const auto crossing = [](std::vector<double> values) {
        std::vector<std::pair<int64_t, double>> at;
        for (size_t i = 0; i < values.size(); ++i) at.emplace_back(10 * static_cast<int64_t>(i), values[i]);
        return find_crossing(at, [](double value) { return value > 2; });
    };
    EXPECT_EQ(crossing({1, 3, 1, 3, 3}).step, 30);
    EXPECT_EQ(crossing({1, 3, 1, 3, 3}).kind, Crossing::Kind::kOnset);
    EXPECT_TRUE(crossing({1, 3, 3}).stays);
    EXPECT_FALSE(crossing({1, 3, 3, 1, 3}).stays);
    EXPECT_EQ(crossing({1, 1, 3}).kind, Crossing::Kind::kNever) << "the last measurement confirms nothing";
    EXPECT_EQ(crossing({3, 3, 3}).kind, Crossing::Kind::kAtStart);
    EXPECT_EQ(crossing({3, 1, 3, 3}).kind, Crossing::Kind::kOnset);
    EXPECT_EQ(crossing({1, 3}).kind, Crossing::Kind::kUnmeasured);
    EXPECT_EQ(crossing({}).kind, Crossing::Kind::kUnmeasured);
}

/// Layers 1 and 2 of 8 spike at 20 and 40 and collapse at 40 and 60; layer 5 spikes late, for a while.
PlantedForm planted(const std::string&, int64_t layer, int64_t) {
    if (layer == 1 || layer == 2) return {.spike = 20 * layer, .collapse = 20 + 20 * layer, .kept = 0.2};
    if (layer == 5) return {.spike = 100, .spike_end = 800};
    return {};
}

TEST(RunStatistics, FindPlantedSpikesAndCollapses) {
    PlantedRun run;
    run.noise = 0;
    run.form = planted;
    for (const int version : {1, 2})
        for (const bool per_head : {false, true}) {
            run.version = version;
            const RunStatistics statistics = planted_statistics(run);
            const FormsStatistics& forms = statistics.matrices.at({"qk", per_head});
            const Figures& figures = forms.figures;
            EXPECT_EQ(forms.layers, 8);
            EXPECT_EQ(forms.forms, per_head ? 16 : 8);
            EXPECT_EQ(statistics.early_steps(), 40);
            for (const char* edges : {"2", "10"}) {
                const std::string spike = std::string("nulls/product/spike/") + edges + "/";
                EXPECT_DOUBLE_EQ(figures[spike + "share"], 3.0 / 8);
                EXPECT_DOUBLE_EQ(figures[spike + "early_share"], 2.0 / 8);
                EXPECT_DOUBLE_EQ(figures[spike + "layers"], 2.0 / 8);
                EXPECT_DOUBLE_EQ(figures[spike + "first_step"], 20);
                EXPECT_DOUBLE_EQ(figures[spike + "median_step"], 40);
                EXPECT_DOUBLE_EQ(figures[spike + "stays"], 2.0 / 3);
            }
            EXPECT_DOUBLE_EQ(figures["nulls/mp/step0/beyond/2"], 0);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/step0/peak_ratio"], 0.6);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/peak_ratio"], 25);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/median_peak"], 0.6);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/final_ratio"], 25);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/outliers"], 2.0 / 8);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/most_outliers"], 3.0 / 8);
            // Three of eight layers hold equal shares: (8/3 - 1) / 7.
            EXPECT_NEAR(figures["nulls/mp/concentration"], (8.0 / 3 - 1) / 7, 1e-12);
            EXPECT_DOUBLE_EQ(figures["kept/step0/initial"], 1);
            EXPECT_DOUBLE_EQ(figures["kept/step0/least"], (6 + 2 * 0.2) / 8);
            EXPECT_DOUBLE_EQ(figures["kept/step0/least_step"], 60);
            EXPECT_DOUBLE_EQ(figures["kept/step0/worst"], 0.2);
            EXPECT_DOUBLE_EQ(figures["collapse/0.25/share"], 2.0 / 8);
            EXPECT_DOUBLE_EQ(figures["collapse/0.25/early_share"], 1.0 / 8);
            EXPECT_DOUBLE_EQ(figures["collapse/0.1/share"], 0);
            EXPECT_EQ(std::isnan(figures["kept/null/final"]), version == 1);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/lag/0.5/both"], 2.0 / 3);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/lag/0.5/steps"], 20);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/lag/0.5/measurements"], 2);
            EXPECT_DOUBLE_EQ(figures["nulls/mp/lag/0.1/both"], 0);
            EXPECT_EQ(forms.pairs.at("nulls/mp/lag/0.5").size(), per_head ? 6u : 3u);
            EXPECT_EQ(forms.pairs.at("nulls/mp/onset_depth").size(), 8u);
        }
}

TEST(RunStatistics, RecoverALagAndItsRankCorrelation) {
    // Layer l spikes at 10 (l + 1), and collapses three measurements after the spike of another layer.
    const int64_t other[] = {1, 0, 2, 4, 3, 6, 5, 7};
    PlantedRun run;
    run.noise = 0;
    run.measured.clear();
    for (int64_t step = 0; step <= 200; step += 10) run.measured.push_back(step);
    run.form = [&](const std::string&, int64_t layer, int64_t) {
        return PlantedForm{.spike = 10 * (layer + 1), .collapse = 10 * (other[layer] + 4), .kept = 0.01};
    };
    const FormsStatistics forms = planted_statistics(run).matrices.at({"qk", false});
    EXPECT_DOUBLE_EQ(forms.figures["nulls/product/lag/0.1/measurements"], 3);
    EXPECT_DOUBLE_EQ(forms.figures["nulls/product/lag/0.1/steps"], 30);
    // Six differences of one rank: 1 - 6 * 6 / (8 * 63).
    EXPECT_NEAR(rank_correlation(forms.pairs.at("nulls/product/lag/0.1")), 1 - 36.0 / 504, 1e-12);
    EXPECT_NEAR(rank_correlation(forms.pairs.at("nulls/product/onset_depth")), 1, 1e-12);
}

TEST(RunStatistics, WhatIsBeyondFromTheStartIsABaseline) {
    PlantedRun run;
    run.noise = 0;
    run.form = [](const std::string&, int64_t layer, int64_t) {
        return PlantedForm{.spike = layer < 4 ? 20 : -1, .start_ratio = layer < 2 ? 5.0 : 0.6};
    };
    const FormsStatistics forms = planted_statistics(run).matrices.at({"qk", false});
    EXPECT_DOUBLE_EQ(forms.figures["nulls/product/step0/beyond/2"], 2.0 / 8);
    EXPECT_DOUBLE_EQ(forms.figures["nulls/product/step0/beyond/10"], 0);
    EXPECT_DOUBLE_EQ(forms.figures["nulls/product/spike/2/share"], 2.0 / 8);
    EXPECT_DOUBLE_EQ(forms.figures["nulls/product/spike/10/share"], 4.0 / 8);
    EXPECT_EQ(forms.pairs.at("nulls/product/onset_depth").size(), 6u);
}

TEST(RunStatistics, WhatWasNotMeasuredIsNotANumber) {
    PlantedRun run;
    run.form = planted;
    EXPECT_TRUE(planted_statistics({.matrices = {}}).matrices.empty());
    run.measured = {0};
    const FormsStatistics start = planted_statistics(run).matrices.at({"qk", false});
    EXPECT_EQ(start.figures["nulls/mp/step0/beyond/2"], 0);
    EXPECT_EQ(start.figures["kept/step0/initial"], 1);
    for (const char* figure :
         {"kept/step0/least", "kept/step0/final", "kept/null/least", "nulls/mp/peak_ratio",
          "nulls/mp/final_ratio", "nulls/mp/spike/2/share", "collapse/0.5/share", "nulls/mp/lag/0.5/both"})
        EXPECT_TRUE(std::isnan(start.figures[figure])) << figure;
    run.measured = {0, 100, 200, 400, 800};
    const FormsStatistics late = planted_statistics(run).matrices.at({"qk", false});
    EXPECT_TRUE(std::isnan(late.figures["nulls/mp/spike/2/early_share"]))
        << "nothing was measured that early";
    EXPECT_DOUBLE_EQ(late.figures["nulls/mp/spike/2/share"], 3.0 / 8);
    run.measured = {10, 20, 40, 60, 800};
    const FormsStatistics no_start = planted_statistics(run).matrices.at({"qk", false});
    EXPECT_TRUE(std::isnan(no_start.figures["nulls/mp/step0/beyond/2"]));
    run.layers = 1;
    EXPECT_TRUE(
        std::isnan(planted_statistics(run).matrices.at({"qk", false}).figures["nulls/mp/concentration"]));
}

TEST(RunStatistics, SkipMeasurementsThatAreNotFinite) {
    PlantedRun run;
    run.noise = 0;
    run.form = planted;
    RunSeries series;
    for (json line : planted_lines(run)) {
        // Layer 1 has no numbers at one step, layer 3 at none, as after a failed solver.
        if (line["layer"] == 3 || (line["layer"] == 1 && line["step"] == 30)) {
            line["stable_rank"] = line["kept_step0"] = line["lambda_max"] = nullptr;
            for (json& own : line["nulls"]) own["mp_gap_ratio"] = own["kept_null"] = nullptr;
        }
        series.add(line);
    }
    series.finish();
    RunStatistics statistics;
    statistics.steps = 800;
    add_statistics(statistics, series);
    const Figures& figures = statistics.matrices.at({"qk", false}).figures;
    EXPECT_DOUBLE_EQ(figures["nulls/product/spike/2/share"], 3.0 / 7);
    EXPECT_DOUBLE_EQ(figures["nulls/product/spike/2/first_step"], 20);
    EXPECT_DOUBLE_EQ(figures["kept/step0/final"], (5 + 2 * 0.2) / 7);
}

TEST(RunSeries, TakesTheLaterOfTwoRecordsAndSkipsOtherLines) {
    PlantedRun run;
    run.noise = 0;
    const std::vector<json> old_lines = planted_lines(run);
    run.form = planted;
    RunSeries series;
    for (const json& line : old_lines) series.add(line);
    for (const json& line : planted_lines(run)) series.add(line);  // as after a resume from step 0
    for (const char* text :
         {"{}", "[]", "3", R"({"matrix": 3, "step": 1, "layer": 0, "head": 0})",
          R"({"matrix": "qk", "step": 1.5, "layer": 0, "head": 0})",
          R"({"matrix": "qk", "step": 5, "layer": 0})",
          R"({"matrix": "weights", "step": 5, "layer": 0, "head": -1, "nulls": {}})",
          R"({"matrix": "qk", "step": 800, "layer": 0, "head": -1, "nulls": {"product": 4, "x/y": {}}})",
          R"({"matrix": "qk", "step": 800, "layer": 0, "head": -1, "nulls": [1]})"})
        series.add(json::parse(text));
    series.finish();
    RunStatistics statistics;
    statistics.steps = 800;
    add_statistics(statistics, series);
    EXPECT_EQ(statistics.measurements, std::ssize(run.measured));
    EXPECT_EQ(statistics.matrices.size(), 2u);
    EXPECT_DOUBLE_EQ(statistics.matrices.at({"qk", false}).figures["nulls/product/spike/2/share"], 3.0 / 8);
}

}  // namespace
}  // namespace pastur::test
