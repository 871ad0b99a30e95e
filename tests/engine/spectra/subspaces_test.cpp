// Scope "overlap" in a run: what the records and archives hold, and that a resumed run goes on from them.
#include "engine/spectra/subspaces.h"

#include <gtest/gtest.h>

#include <fstream>

#include "diag/npz_reader.h"
#include "engine/model/model.h"
#include "engine/spectra/monitor.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"
#include "tests/support/thread_ranks.h"

namespace pastur::test {
namespace {

class Subspaces : public testing::TestWithParam<bool> {
  protected:
    Subspaces() : config_(tiny_config("variant = \"mha\"")) {
        config_.diagnostics.scopes = {Scope::kOverlap};
        config_.diagnostics.nulls = {NullKind::kProduct, NullKind::kMp};
    }
    /// Measures these steps in one part of a run, with the weights of seed `step / 20`.
    void measure(const std::vector<int64_t>& steps, int64_t after, int ranks = 1) {
        const std::vector<std::string> failures = run_ranks(ranks, [&](Comm& comm) {
            Context ctx = CpuContext();
            Model model(config_, DType::kF32, {1, 2});
            model.params().allocate(ctx, false);
            Monitor::Parts parts = Monitor::default_parts(ctx, config_);
            parts.in_background = GetParam();
            Monitor monitor(ctx, comm, config_, model.params(), folder_.path(), parts);
            if (comm.is_root()) monitor.open(after);
            for (const int64_t step : steps) {
                model.params().initialise(ctx, static_cast<uint64_t>(1 + step / 20));
                EXPECT_TRUE(monitor.observe(step, [] { return false; }));
            }
            EXPECT_EQ(monitor.drain().messages, std::vector<std::string>{});
        });
        for (const std::string& failure : failures) EXPECT_EQ(failure, "");
    }
    std::vector<nlohmann::json> lines() const {
        std::vector<nlohmann::json> list;
        std::ifstream in(folder_.path() / "summary.jsonl");
        for (std::string line; std::getline(in, line);) list.push_back(nlohmann::json::parse(line));
        return list;
    }
    Config config_;
    TempFolder folder_;
};

TEST_P(Subspaces, CompareLayersAndMeasurements) {
    measure({0, 10, 20}, -1, 2);
    const int64_t layers = config_.model.layers;
    const std::vector<nlohmann::json> found = lines();
    ASSERT_EQ(std::ssize(found), 3 * layers);
    for (const nlohmann::json& line : found) {
        EXPECT_EQ(line.at("matrix"), "qk");
        const auto step = line.at("step").get<int64_t>(), layer = line.at("layer").get<int64_t>();
        EXPECT_EQ(line.contains("overlap_before"), step > 0);
        EXPECT_EQ(line.contains("overlap_next"), layer + 1 < layers);
        EXPECT_GT(line.at("overlap_random"), 0);
        if (step == 10) {
            EXPECT_NEAR(line.at("overlap_before").get<double>(), 1, 1e-9) << "equal weights";
        }
        if (step == 20) {
            EXPECT_LT(line.at("overlap_before").get<double>(), 0.99);
        }
    }
    // The files' vectors have the overlaps of the records.
    const NpzReader file(folder_.path() / "step_00000020.npz"), before(folder_.path() / "step_00000010.npz");
    const auto vectors = [](const NpzReader& archive, size_t layer) {
        NpzContent array = archive.read(vectors_name(layer));
        return Subspace{array.shape.at(0), array.shape.at(1), array.values};
    };
    const nlohmann::json& last = found[static_cast<size_t>(2 * layers)];
    EXPECT_NEAR(last.at("overlap_before").get<double>(), overlap(vectors(file, 0), vectors(before, 0)),
                1e-12);
    EXPECT_NEAR(last.at("overlap_next").get<double>(), overlap(vectors(file, 0), vectors(file, 1)), 1e-12);
}

TEST_P(Subspaces, AResumedRunComparesWithTheArchiveBefore) {
    measure({0, 10, 20}, -1);
    const std::vector<nlohmann::json> whole = lines();
    measure({20}, 10);
    EXPECT_EQ(lines(), whole);
}

INSTANTIATE_TEST_SUITE_P(Modes, Subspaces, testing::Bool(), [](const auto& mode) {
    return mode.param ? std::string("InTheBackground") : std::string("BetweenSteps");
});

}  // namespace
}  // namespace pastur::test
