// Runs with train.qk_clip: log, spectra, state and resume, and the same bits on any number of ranks.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "engine/io/manifest.h"
#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class QkClipRuns : public Ranks {
  protected:
    static constexpr const char* kClip = "--train.qk_clip=0.3 --run.log_every=2 ";
    static constexpr const char* kMuonClip = "--train.optimizer=muon --train.qk_clip=0.03 --run.log_every=2 ";
    /// Steps, largest logits and numbers of scaled heads.
    nlohmann::json logged(const std::string& run) const {
        nlohmann::json all;
        for (const nlohmann::json& event : events(run, "train"))
            all.push_back({event.at("step"), event.at("max_logit"), event.at("qk_clipped")});
        return all;
    }
    int64_t scaled(const std::string& run) const {
        int64_t sum = 0;
        for (const nlohmann::json& event : events(run, "train")) sum += event.at("qk_clipped").get<int64_t>();
        return sum;
    }
    nlohmann::json state(const std::string& run, int64_t step = kSteps) const {
        return nlohmann::json::parse(read_file(checkpoint(run, step) + "/state.json", 4096));
    }
};

TEST_F(QkClipRuns, AreLoggedAndResumeWithTheSameBits) {
    for (const std::string& kept : {std::string("plain"), std::string("narrow")}) {
        const std::string more = (kept == "plain" ? kClip : kMuonClip) +
                                 std::string(kept == "plain" ? "" : "--train.weights=bf16 ") +
                                 "--checkpoint.every=1 --checkpoint.keep=0";
        expect_trained(1, kept, more);
        EXPECT_GT(scaled(kept), 0);
        EXPECT_EQ(state(kept).at("qk_clipped"), scaled(kept));
        for (const int64_t point : {1, 4}) {
            const std::string cut = fmt::format("{}{}", kept, point);
            fs::copy(file(kept), file(cut), fs::copy_options::recursive);
            for (int64_t step = point + 1; step <= kSteps; ++step) fs::remove_all(checkpoint(cut, step));
            expect_trained(1, cut, more + " --resume");
            EXPECT_EQ(weights(cut), weights(kept)) << "resumed after step " << point;
            EXPECT_EQ(losses(cut), losses(kept));
            EXPECT_EQ(logged(cut), logged(kept)) << "resumed after step " << point;
            EXPECT_EQ(state(cut), state(kept));
        }
    }
    EXPECT_EQ(run("verify plain").code, 0);
}

TEST_F(QkClipRuns, AreNotMentionedWhereItIsOff) {
    expect_trained(1, "off");
    for (const nlohmann::json& event : events("off", "train")) {
        EXPECT_FALSE(event.contains("max_logit"));
        EXPECT_FALSE(event.contains("qk_clipped"));
    }
    EXPECT_FALSE(state("off").contains("qk_clipped"));
}

/// Scaling a head's logits by gamma scales the eigenvalues of its form by gamma^2, and its logits on the probe, where no
/// layer before it was scaled. gamma of the head with the largest logit is 1/2.
TEST_F(QkClipRuns, SpectraAndTheProbeSeeTheScaledWeights) {
    using Head = std::pair<int64_t, int64_t>;
    const auto measured = [&](const std::string& run, const char* name, const char* metric) {
        std::map<Head, double> values;
        std::ifstream lines(file(run + "/spectra/" + name));
        for (std::string text; std::getline(lines, text);) {
            const nlohmann::json line = nlohmann::json::parse(text);
            if (line.at("step") == 1)
                values[{line.at("layer"), line.at("head")}] = line.at(metric).get<double>();
        }
        return values;
    };
    for (const std::string weights : {"fp32", "bf16-nearest"}) {
        const std::string free = "free_" + weights, clipped = "clipped_" + weights;
        const std::string more =
            "--train.steps=1 --train.warmup_steps=0 --diagnostics.every=1 --diagnostics.scopes=head,logits --train.weights=" +
            weights + " --train.qk_clip=";
        expect_trained(1, free, more + "1e30");
        const double largest = events(free, "train").at(0).at("max_logit").get<double>();
        expect_trained(1, clipped, more + fmt::format("{}", largest / 2));
        const nlohmann::json event = events(clipped, "train").at(0);
        ASSERT_EQ(event.at("max_logit").get<double>(), largest);

        const double tolerance = weights == "fp32" ? 1e-5 : 1e-2;
        const auto before = measured(free, "summary.jsonl", "lambda_max"),
                   after = measured(clipped, "summary.jsonl", "lambda_max"),
                   logits_before = measured(free, "logits.jsonl", "rms_logit"),
                   logits_after = measured(clipped, "logits.jsonl", "rms_logit");
        ASSERT_EQ(before.size(), 6u);
        double least = 1;
        int64_t scaled = 0;
        for (const auto& [head, value] : before) {
            const double ratio = after.at(head) / value;
            least = std::min(least, ratio);
            scaled += ratio < 1 - tolerance;
            if (head.first == 0) {
                EXPECT_NEAR(logits_after.at(head) / logits_before.at(head), std::sqrt(ratio), tolerance)
                    << "head " << head.second;
            }
        }
        EXPECT_NEAR(least, 0.25, tolerance) << weights;
        EXPECT_EQ(scaled, event.at("qk_clipped").get<int64_t>()) << weights;
    }
}

TEST_F(QkClipRuns, CountsMoreHeadsThanStepsHaveAreRefused) {
    expect_trained(1, "run", kClip);
    nlohmann::json damaged = state("run");
    damaged["qk_clipped"] = 6 * 3 * 2 + 1;  // steps, layers, heads
    write("run/checkpoints/step_00000006/state.json", damaged.dump());
    write_manifest(checkpoint("run", 6));
    expect_failure("verify run", 65,
                   {"state.json: 37 heads scaled by train.qk_clip: expected at most 6 in each"});
}

#if defined(PASTUR_HAVE_MPI)
TEST_F(QkClipRuns, OfOneTwoAndFourRanksAreTheSameBits) {
    const std::string more = std::string(kClip) + "--train.deterministic_comm=true";
    expect_trained(1, "one", more);
    EXPECT_GT(scaled("one"), 0);
    for (const int ranks : {2, 4})
        for (const char* zero : {"0", "1"}) {
            const std::string run = fmt::format("ranks{}_zero{}", ranks, zero);
            expect_trained(ranks, run, more + " --train.zero=" + zero);
            EXPECT_EQ(weights(run), weights("one")) << run;
            EXPECT_EQ(losses(run), losses("one")) << run;
            EXPECT_EQ(logged(run), logged("one")) << run;
        }
}

/// Shards of ZeRO-1 cut through the rows of heads, or are whole matrices (Muon).
TEST_F(QkClipRuns, OfShardsAreTheBitsOfWholeStates) {
    for (const std::string& more : {std::string(kClip) + "--train.weights=bf16", std::string(kMuonClip)}) {
        const std::string name = more.find("muon") == std::string::npos ? "adamw_" : "muon_";
        expect_trained(2, name + "whole", more + " --train.zero=0");
        expect_trained(2, name + "shards", more + " --train.zero=1");
        EXPECT_GT(scaled(name + "whole"), 0);
        EXPECT_EQ(weights(name + "shards"), weights(name + "whole"));
        EXPECT_EQ(logged(name + "shards"), logged(name + "whole"));
    }
}
#endif

}  // namespace
}  // namespace pastur::test
