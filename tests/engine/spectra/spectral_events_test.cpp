// Onsets: once per threshold, confirmed by the next measurement, and the same after a resume.
#include "engine/spectra/spectral_events.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "engine/spectra/summary_lines.h"

namespace pastur {
namespace {

using Kind = Onset::Kind;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

DiagnosticsConfig settings(const std::vector<NullKind>& nulls = {NullKind::kProduct, NullKind::kMp}) {
    DiagnosticsConfig config;
    config.nulls = nulls;
    return config;
}

/// A record whose null's edge is 2.
SpectrumRecord record(double ratio, double stable_rank = 10, const char* null = "product", int64_t head = 2,
                      int64_t layer = 1, const char* matrix = "qk") {
    SpectrumRecord record;
    record.layer = layer;
    record.head = head;
    record.matrix = matrix;
    record.null = null;
    record.metrics.lambda_plus = 2;
    record.metrics.lambda_max = 2 * ratio;
    record.metrics.mp_gap_ratio = ratio;
    record.metrics.stable_rank = stable_rank;
    return record;
}

struct Measured {
    int64_t step;
    SpectrumRecord record;
};

/// {first, confirmed, threshold} of the onsets of one kind.
using Times = std::vector<std::tuple<int64_t, int64_t, double>>;
Times onsets(SpectralEvents& events, const std::vector<Measured>& run, Kind kind) {
    Times times;
    for (const Measured& measured : run) {
        SpectrumRecord copy = measured.record;
        for (const Onset& onset : events.feed(measured.step, copy))
            if (onset.kind == kind) times.emplace_back(onset.first, onset.confirmed, onset.threshold);
    }
    return times;
}

TEST(SpectralEvents, ASpikeIsTheFirstOfTwoMeasurementsBeyondAThreshold) {
    SpectralEvents events(settings());
    // One measurement beyond 1.2 at step 10; two from step 30. Beyond 10 and 2 at once from step 50.
    const std::vector<Measured> run = {
        {0, record(1.0)}, {10, record(1.3)}, {20, record(1.1)}, {30, record(1.3)}, {40, record(1.9)},
        {50, record(12)}, {60, record(11)},  {70, record(0.5)}, {80, record(20)},  {90, record(20)}};
    EXPECT_EQ(onsets(events, run, Kind::kSpike), (Times{{30, 40, 1.2}, {50, 60, 2}, {50, 60, 10}}))
        << "each threshold once in a run";
}

TEST(SpectralEvents, ACollapseFollowsTheSameRule) {
    SpectralEvents events(settings());
    const std::vector<Measured> run = {{0, record(1, 10)},   {10, record(1, 4.9)}, {20, record(1, 6)},
                                       {30, record(1, 4.9)}, {40, record(1, 2)},   {50, record(1, 2)},
                                       {60, record(1, 0.9)}, {70, record(1, 0.8)}, {80, record(1, 10)}};
    EXPECT_EQ(onsets(events, run, Kind::kCollapse), (Times{{30, 40, 0.5}, {40, 50, 0.25}, {60, 70, 0.1}}));
}

TEST(SpectralEvents, SpikesBelongToANullAndCollapsesToAMatrix) {
    SpectralEvents events(settings());
    std::vector<Measured> run;
    for (const int64_t step : {0, 10, 20})
        for (const char* null : {"product", "mp"})
            run.push_back({step, record(std::string(null) == "mp" ? 5 : 1, step == 0 ? 10 : 4, null)});
    int spikes = 0, collapses = 0;
    for (const Measured& measured : run) {
        SpectrumRecord copy = measured.record;
        for (const Onset& onset : events.feed(measured.step, copy)) {
            spikes += onset.kind == Kind::kSpike;
            collapses += onset.kind == Kind::kCollapse;
            if (onset.kind == Kind::kSpike) {
                EXPECT_EQ(onset.null, "mp");
            }
        }
    }
    EXPECT_EQ(spikes, 2) << "1.2 and 2";
    EXPECT_EQ(collapses, 1);
}

TEST(SpectralEvents, ThresholdsStartAtTheRecipes) {
    DiagnosticsConfig config = settings();
    config.spike_ratio = 3;
    config.collapse_fraction = 0.2;
    SpectralEvents events(config);
    const std::vector<Measured> run = {{0, record(1)}, {10, record(12, 0.5)}, {20, record(12, 0.5)}};
    EXPECT_EQ(onsets(events, run, Kind::kSpike), (Times{{10, 20, 3}, {10, 20, 10}}));
    SpectralEvents again(config);
    EXPECT_EQ(onsets(again, run, Kind::kCollapse), (Times{{10, 20, 0.2}, {10, 20, 0.1}}));
}

TEST(SpectralEvents, SetTheKeptRank) {
    SpectralEvents events(settings());
    for (const auto& [step, stable_rank] : {std::pair(0, 8.0), {10, 6.0}, {20, 2.0}}) {
        SpectrumRecord measured = record(1, stable_rank);
        events.feed(step, measured);
        EXPECT_EQ(measured.kept_step0, stable_rank / 8);
        SpectrumRecord other = record(1, stable_rank, "mp");
        events.feed(step, other);
        EXPECT_EQ(other.kept_step0, stable_rank / 8);
    }
    SpectralEvents late(settings());
    SpectrumRecord measured = record(1, 6);
    EXPECT_TRUE(late.feed(10, measured).empty());
    EXPECT_EQ(measured.kept_step0, std::nullopt) << "step 0 was not measured";
}

TEST(SpectralEvents, MatricesDoNotMix) {
    SpectralEvents events(settings());
    const std::vector<Measured> run = {{0, record(1, 10, "product", 0)},
                                       {0, record(5, 10, "product", 1)},
                                       {10, record(5, 10, "product", 0)},
                                       {10, record(1, 10, "product", 1)},
                                       {10, record(5, 10, "product", 0, 1, "qk_rope")}};
    EXPECT_EQ(onsets(events, run, Kind::kSpike), Times());
}

TEST(SpectralEvents, NumbersThatAreNotFiniteChangeNothing) {
    SpectralEvents events(settings());
    SpectrumRecord failed = record(1);
    failed.metrics.lambda_max = kNaN;
    SpectrumRecord without_edge = record(1);
    without_edge.metrics.lambda_plus = without_edge.metrics.mp_gap_ratio = kNaN;
    const std::vector<Measured> run = {{0, record(1)}, {10, record(1.5)}, {15, failed}, {20, record(1.5)}};
    EXPECT_EQ(onsets(events, run, Kind::kSpike), (Times{{10, 20, 1.2}}));
    EXPECT_EQ(onsets(events, {{30, without_edge}, {40, without_edge}}, Kind::kSpike), Times());
}

TEST(SpectralEvents, ReplayedRecordsLeaveTheSameState) {
    std::vector<Measured> run;
    for (int64_t step = 0; step < 300; step += 10)
        run.push_back({step, record(static_cast<double>(step * 37 % 290) / 18,
                                    10 * std::exp(-static_cast<double>(step * 13 % 90) / 30))});
    SpectralEvents whole(settings());
    const Times all = onsets(whole, run, Kind::kSpike);
    EXPECT_EQ(all.size(), 3u);
    for (size_t cut = 0; cut < run.size(); ++cut) {
        const std::vector<Measured> before(run.begin(), run.begin() + static_cast<long>(cut)),
            after(run.begin() + static_cast<long>(cut), run.end());
        SpectralEvents first(settings()), resumed(settings());
        Times times = onsets(first, before, Kind::kSpike);
        // The records come back from their lines.
        for (const Measured& measured : before) {
            auto logged = read_records(summary_lines({measured.record}, measured.step).at(0));
            ASSERT_EQ(logged.size(), 1u);
            resumed.feed(logged[0].step, logged[0].record);
        }
        for (const auto& time : onsets(resumed, after, Kind::kSpike)) times.push_back(time);
        EXPECT_EQ(times, all) << "cut at " << cut;
    }
}

TEST(Onset, CarriesWhatALogNeeds) {
    Onset onset{Kind::kSpike, 10, 20, 1, 2, "qk", "product", 2, 5, 2};
    EXPECT_EQ(to_json(onset).dump(),
              R"({"event":"spike","step":20,"onset":10,"layer":1,"head":2,"matrix":"qk","null":"product",)"
              R"("threshold":2.0,"lambda_max":5.0,"lambda_plus":2.0})");
    EXPECT_EQ(
        describe(onset),
        "step 20: layer 1 head 2: spike in qk, largest eigenvalue 2.5 x the edge of product (above 2 since "
        "step 10)");
    onset = {Kind::kCollapse, 10, 20, 1, -1, "qk", "product", 0.5, 2, 10};
    EXPECT_EQ(
        to_json(onset).dump(),
        R"({"event":"collapse","step":20,"onset":10,"layer":1,"head":-1,"matrix":"qk","null":"product",)"
        R"("threshold":0.5,"stable_rank":2.0,"initial_stable_rank":10.0})");
    EXPECT_EQ(describe(onset),
              "step 20: layer 1: collapse of qk, stable rank 2 of 10 at step 0 (below 50 % since step 10)");
}

/// Feeds two equal measurements, at steps 10 and 20, after one of `before`; the console's lines.
std::vector<std::string> lines(const DiagnosticsConfig& config, std::vector<SpectrumRecord> before,
                               const std::vector<SpectrumRecord>& after) {
    SpectralEvents events(config);
    std::vector<std::string> lines;
    int64_t step = 0;
    for (std::vector<SpectrumRecord> records : {before, after, after, after}) {
        std::vector<Onset> confirmed;
        for (SpectrumRecord& record : records)
            for (const Onset& onset : events.feed(step, record)) confirmed.push_back(onset);
        lines.push_back(events.describe_measurement(step, records, confirmed));
        step += 10;
    }
    return lines;
}

TEST(SpectralEvents, GiveTheConsoleALineWhereSomethingChanged) {
    std::vector<SpectrumRecord> before, after;
    for (const int64_t layer : {0, 1, 2})
        for (const int64_t head : {-1, 0, 1})
            for (const char* null : {"mp", "product"}) {
                before.push_back(record(1, 10, null, head, layer));
                after.push_back(record(layer == 2 ? 1.1 : 3.0 + static_cast<double>(layer + head),
                                       layer == 1 ? 0.7 : 6, null, head, layer));
            }
    EXPECT_EQ(
        lines(settings(), before, after),
        (std::vector<std::string>{"", "",
                                  "step 20 spectra: 2/3 layers, 4/6 heads beyond the edge (largest 5 x, "
                                  "layer 1); 1 layer keeps less than half (least 7 %, layer 1)",
                                  ""}));
}

TEST(SpectralEvents, CountALayerOnceAndHeadsByThemselves) {
    // Two forms of each head, no whole layer; only the rank changes, and by the recipe's fraction.
    DiagnosticsConfig config = settings();
    config.collapse_fraction = 0.75;
    std::vector<SpectrumRecord> before, after;
    for (const int64_t head : {0, 1})
        for (const char* matrix : {"qk_content", "qk_rope", "q_proj"}) {
            before.push_back(record(1, 10, "product", head, 4, matrix));
            after.push_back(record(1, 7, "product", head, 4, matrix));
        }
    EXPECT_EQ(lines(config, before, after)[2],
              "step 20 spectra: 2 heads keep less than 75 % (least 70 %, layer 4)");
    // Other matrices, and the naive null next to another, are no news for the console.
    EXPECT_EQ(lines(settings(), {record(1, 10, "product", -1, 0, "q_proj"), record(1), record(1, 10, "mp")},
                    {record(3, 1, "product", -1, 0, "q_proj"), record(1), record(3, 10, "mp")})[2],
              "");
    // By mp only where it was asked for alone, or a form has no other null.
    EXPECT_EQ(lines(settings(), {record(1, 10, "mp", -1)}, {record(3, 10, "mp", -1)})[2],
              "step 20 spectra: 1/1 layers beyond the edge (largest 3 x, layer 1)");
    EXPECT_EQ(lines(settings({NullKind::kMp}), {record(1, 10, "mp", -1)}, {record(3, 10, "mp", -1)})[2],
              "step 20 spectra: 1/1 layers beyond the edge (largest 3 x, layer 1)");
}

}  // namespace
}  // namespace pastur
