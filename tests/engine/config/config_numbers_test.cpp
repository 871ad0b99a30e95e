// Numbers of a recipe as kernels see them, and numbers that follow from others.
#include <gtest/gtest.h>

#include "engine/model/recipe.h"
#include "tests/support/expect_error.h"

namespace pastur::test {
namespace {

TEST(ConfigNumbers, AreInRangeInFp32Too) {
    const auto refused = [](const std::string& key, const std::string& value, const std::string& expected) {
        expect_error(ExitCode::kUsage, {"--train." + key + "=" + value + ": expected " + expected, "fp32"},
                     [&] {
                         parse_config("", "recipe", {{"train." + key, value}});
                     });
    };
    refused("eps", "1e-50", "a number above 0");
    refused("beta2", "0.99999999", "a number from 0 to below 1");
    refused("lr", "1e39", "a number above 0");
    EXPECT_EQ(parse_config("", "recipe", {{"train.beta2", "0.9999999"}}).train.beta2, 0.9999999);
    EXPECT_EQ(parse_config("", "recipe", {{"train.eps", "1e-30"}}).train.eps, 1e-30);
}

TEST(ConfigNumbers, TheMicroBatchOfDeterministicRanksDoesNotFollowTheirNumber) {
    const auto micro_batch = [](int64_t sequences, int ranks, bool deterministic) {
        return parse_config("", "recipe",
                            {{"train.global_batch", std::to_string(sequences)},
                             {"train.deterministic_comm", deterministic ? "true" : "false"}},
                            ranks)
            .train.micro_batch;
    };
    EXPECT_EQ(micro_batch(16, 1, false), 16);
    EXPECT_EQ(micro_batch(16, 2, false), 8);
    for (const int64_t sequences : {1, 7, 12, 16, 24, 30, 512})
        for (int ranks = 1; ranks <= 8; ++ranks) {
            if (sequences % ranks != 0) continue;
            const int64_t micro = micro_batch(sequences, ranks, true);
            EXPECT_EQ(micro, micro_batch(sequences, 1, true)) << sequences << " on " << ranks;
            EXPECT_EQ(sequences % (micro * ranks), 0) << sequences << " on " << ranks;
        }
    EXPECT_EQ(micro_batch(16, 1, true), 2);
    EXPECT_EQ(micro_batch(512, 1, true), 64);
}

}  // namespace
}  // namespace pastur::test
