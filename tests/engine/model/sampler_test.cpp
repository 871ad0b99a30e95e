#include "engine/model/decoding/sampler.h"

#include <cmath>
#include <map>
#include <vector>

#include "tests/support/expect_error.h"

namespace pastur::test {
namespace {

/// Frequencies of the tokens over positions 0, 1, ..., count - 1.
std::map<int32_t, double> frequencies(const std::vector<float>& logits, Sampling sampling, int count) {
    std::map<int32_t, double> seen;
    for (int i = 0; i < count; ++i)
        seen[sample(logits, sampling, 3, static_cast<uint64_t>(i))] += 1.0 / count;
    return seen;
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
    EXPECT_EQ(sample(std::vector<float>{-3, 2, 5, 5, 1}, {}, 0, 0), 2);
    EXPECT_EQ(sample(std::vector<float>{-INFINITY, -8}, {}, 0, 0), 1);
    EXPECT_EQ(sample(std::vector<float>{7}, {}, 0, 0), 0);
}

TEST(Sampler, DrawsByTheSoftmaxOfTheTemperature) {
    const std::vector<float> logits = {0.5f, -1.0f, 2.0f, -INFINITY, 1.5f};
    for (const double temperature : {0.5, 1.0, 2.0}) {
        std::vector<double> want;
        double sum = 0;
        for (const float x : logits) sum += want.emplace_back(std::exp(x / temperature));
        constexpr int kCount = 20000;
        const auto got = frequencies(logits, {temperature, 0, 1, 5}, kCount);
        for (size_t i = 0; i < want.size(); ++i) {
            const double p = want[i] / sum;
            const auto found = got.find(static_cast<int32_t>(i));
            EXPECT_NEAR(found == got.end() ? 0 : found->second, p,
                        4.5 * std::sqrt(p * (1 - p) / kCount) + 1e-9)
                << "token " << i << " at temperature " << temperature;
        }
    }
}

TEST(Sampler, TopKAndTopPExcludeWhatIsLessProbable) {
    // Probabilities 0.5, 0.25, 0.15, 0.1, in another order.
    std::vector<float> logits;
    for (const double p : {0.15, 0.5, 0.1, 0.25}) logits.push_back(static_cast<float>(std::log(p)));
    const auto tokens = [&](int64_t top_k, double top_p) {
        std::vector<int32_t> ids;
        for (const auto& [id, share] : frequencies(logits, {1, top_k, top_p, 1}, 400)) ids.push_back(id);
        return ids;
    };
    EXPECT_EQ(tokens(0, 1), (std::vector<int32_t>{0, 1, 2, 3}));
    EXPECT_EQ(tokens(1, 1), (std::vector<int32_t>{1}));
    EXPECT_EQ(tokens(2, 1), (std::vector<int32_t>{1, 3}));
    EXPECT_EQ(tokens(9, 1), (std::vector<int32_t>{0, 1, 2, 3}));
    EXPECT_EQ(tokens(0, 0.4), (std::vector<int32_t>{1}));
    EXPECT_EQ(tokens(0, 0.6), (std::vector<int32_t>{1, 3}));
    EXPECT_EQ(tokens(0, 0.89), (std::vector<int32_t>{0, 1, 3}));
    // Of the two most probable tokens the first has two thirds.
    EXPECT_EQ(tokens(2, 0.6), (std::vector<int32_t>{1}));
    EXPECT_EQ(tokens(0, 1e-9), (std::vector<int32_t>{1}));
}

TEST(Sampler, EqualLogitsAreKeptByTheirIds) {
    const std::vector<float> logits(6, 1.0f);
    for (const auto& [id, share] : frequencies(logits, {1, 3, 1, 1}, 200)) EXPECT_LT(id, 3);
}

TEST(Sampler, DependsOnSeedSequenceAndPositionAlone) {
    const std::vector<float> logits(1000, 0.0f);
    const Sampling sampling{1, 0, 1, 42};
    EXPECT_EQ(sample(logits, sampling, 5, 9), sample(logits, sampling, 5, 9));
    std::map<int32_t, int> seen;
    for (uint64_t i = 0; i < 20; ++i) {
        ++seen[sample(logits, sampling, i, 9)];
        ++seen[sample(logits, sampling, 100, i)];
        ++seen[sample(logits, {1, 0, 1, i}, 200, 9)];
    }
    EXPECT_GT(seen.size(), 50u) << "60 draws of 1000 tokens";
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
    for (const float bad : {NAN, INFINITY})
        for (const double temperature : {0.0, 1.0})
            expect_error(ExitCode::kNonFinite, {"logit"}, [&] {
                sample(std::vector<float>{1, bad, 0}, {temperature, 0, 1, 0}, 0, 0);
            });
    expect_error(ExitCode::kNonFinite, {"logit"}, [&] {
        sample(std::vector<float>{-INFINITY, -INFINITY}, {}, 0, 0);
    });
}

}  // namespace
}  // namespace pastur::test
