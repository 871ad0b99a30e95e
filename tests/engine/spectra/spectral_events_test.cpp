// Spikes and collapses: once per onset, by the right null, and the same after a resume.
#include "engine/spectra/spectral_events.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pastur {
namespace {

using nlohmann::ordered_json;

DiagnosticsConfig settings(const std::vector<NullKind>& nulls = {NullKind::kProduct, NullKind::kMp}) {
    DiagnosticsConfig config;
    config.nulls = nulls;
    config.spike_ratio = 1.5;
    config.collapse_fraction = 0.5;
    return config;
}

ordered_json record(int64_t step, double lambda_max, double stable_rank = 10, const char* null = "product",
                    int64_t head = 2) {
    return {{"step", step},       {"layer", 1},
            {"head", head},       {"matrix", "qk"},
            {"null", null},       {"lambda_max", lambda_max},
            {"lambda_plus", 2.0}, {"stable_rank", stable_rank}};
}

/// The steps at which events of this name begin.
std::vector<int64_t> onsets(SpectralEvents& events, const std::vector<ordered_json>& records,
                            const char* name) {
    std::vector<int64_t> steps;
    for (const ordered_json& record : records)
        for (const ordered_json& event : events.feed(record))
            if (event.at("event") == name) steps.push_back(event.at("step"));
    return steps;
}

TEST(SpectralEvents, ASpikeIsToldOnceWhenItHasGrownTwice) {
    SpectralEvents events(settings());
    // Above 3 from step 20, growing at 10, 20, 30; falls back at 50; rises again.
    const std::vector<ordered_json> records = {record(0, 2.0),  record(10, 1.9), record(20, 3.5),
                                               record(30, 4.0), record(40, 5.0), record(50, 2.5),
                                               record(60, 2.9), record(70, 3.1)};
    EXPECT_EQ(onsets(events, records, "spike"), (std::vector<int64_t>{30, 70}));
}

TEST(SpectralEvents, AHighButSteadyEigenvalueIsNoSpike) {
    SpectralEvents events(settings());
    EXPECT_TRUE(
        onsets(events, {record(0, 9), record(10, 9), record(20, 8.9), record(30, 9), record(40, 9)}, "spike")
            .empty());
}

TEST(SpectralEvents, TheNaiveNullSpikesOnlyWhenAskedForAlone) {
    const std::vector<ordered_json> records = {record(0, 3, 10, "mp"), record(10, 4, 10, "mp"),
                                               record(20, 5, 10, "mp")};
    SpectralEvents both(settings()), alone(settings({NullKind::kMp}));
    EXPECT_TRUE(onsets(both, records, "spike").empty());
    EXPECT_EQ(onsets(alone, records, "spike"), std::vector<int64_t>{20});
}

TEST(SpectralEvents, ACollapseIsToldOncePerOnset) {
    SpectralEvents events(settings());
    const std::vector<ordered_json> records = {record(0, 1, 10),      record(10, 1, 6),   record(20, 1, 4.9),
                                               record(30, 1, 3),      record(40, 1, 5.1), record(50, 1, 4),
                                               record(50, 1, 4, "mp")};
    EXPECT_EQ(onsets(events, records, "collapse"), (std::vector<int64_t>{20, 50}));
}

TEST(SpectralEvents, CarriesWhatALogNeeds) {
    SpectralEvents events(settings());
    events.feed(record(0, 1, 10));
    events.feed(record(10, 4, 10));
    const auto begun = events.feed(record(20, 5, 2));
    ASSERT_EQ(begun.size(), 2u);
    EXPECT_EQ(begun[0], (ordered_json{{"event", "spike"},
                                      {"step", 20},
                                      {"layer", 1},
                                      {"head", 2},
                                      {"matrix", "qk"},
                                      {"null", "product"},
                                      {"lambda_max", 5.0},
                                      {"lambda_plus", 2.0}}));
    EXPECT_EQ(begun[1], (ordered_json{{"event", "collapse"},
                                      {"step", 20},
                                      {"layer", 1},
                                      {"head", 2},
                                      {"matrix", "qk"},
                                      {"null", "product"},
                                      {"stable_rank", 2.0},
                                      {"initial_stable_rank", 10.0}}));
    EXPECT_EQ(describe_event(begun[0]),
              "step 20: layer 1 head 2: spike in qk, largest eigenvalue 5, 2.50 x the edge of product");
    EXPECT_EQ(describe_event(begun[1]), "step 20: layer 1 head 2: qk collapses, stable rank 2 from 10");
}

TEST(SpectralEvents, MatricesDoNotMix) {
    SpectralEvents events(settings());
    EXPECT_TRUE(onsets(events,
                       {record(0, 1, 10, "product", 0), record(0, 4, 1, "product", 1),
                        record(10, 5, 10, "product", 2), record(10, 2, 6, "product", 0)},
                       "spike")
                    .empty());
}

TEST(SpectralEvents, NumbersThatAreNotFiniteChangeNothing) {
    SpectralEvents events(settings());
    ordered_json bad = record(15, 0);
    bad["lambda_max"] = nullptr;
    const std::vector<ordered_json> records = {record(0, 2), record(10, 3.1), bad, record(20, 3.2)};
    EXPECT_EQ(onsets(events, records, "spike"), std::vector<int64_t>{20});
}

TEST(SpectralEvents, ReplayedRecordsLeaveTheSameState) {
    std::vector<ordered_json> records;
    for (int64_t step = 0; step < 200; step += 10)
        records.push_back(record(step, 2 + static_cast<double>(step * 37 % 70) / 20,
                                 4 + static_cast<double>(step * 13 % 90) / 10));
    SpectralEvents whole(settings());
    const std::vector<int64_t> spikes = onsets(whole, records, "spike");
    EXPECT_GE(spikes.size(), 2u);
    for (size_t cut = 0; cut < records.size(); ++cut) {
        SpectralEvents first(settings()), resumed(settings());
        std::vector<int64_t> steps =
            onsets(first, {records.begin(), records.begin() + static_cast<long>(cut)}, "spike");
        for (size_t i = 0; i < cut; ++i) resumed.feed(records[i]);
        for (const int64_t step :
             onsets(resumed, {records.begin() + static_cast<long>(cut), records.end()}, "spike"))
            steps.push_back(step);
        EXPECT_EQ(steps, spikes) << "cut at " << cut;
    }
}

}  // namespace
}  // namespace pastur
