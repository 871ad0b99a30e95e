// `pastur plan`, and the model of scaling behind it.
#include "engine/scaling_model.h"

#include <gtest/gtest.h>

#include "engine/gradient_sync.h"
#include "engine/model.h"
#include "tests/command_line.h"

namespace pastur::test {
namespace {

class Scaling : public testing::Test {
  protected:
    StepTime at(int ranks, double compute_s, int64_t micro_batches = 2) {
        Model model(config_, DType::kF32, {1, 16});
        ParamTable& table = model.params().table();
        GradientSync::lay_out(config_.train, ranks, table);
        elements_ = table.total_elements();
        return predict_step(config_.train, table, links_, ranks, micro_batches, compute_s);
    }
    Config config_ = parse_config("[model]\npreset = \"nano\"\n[data]\nseq_len = 16\n", "recipe", {});
    Links links_{1e-5, 1e9, 1e8, 2};
    int64_t elements_ = 0;
};

TEST_F(Scaling, OneRankExchangesNothing) {
    EXPECT_EQ(at(1, 2.0).total(), 2.0);
    EXPECT_EQ(at(1, 2.0).efficiency(), 1.0);
}

TEST_F(Scaling, WithoutTimeToHideInEverythingShows) {
    // 2 (R - 1) alpha a bucket, and 2 (R - 1)/R of all bytes over B.
    const double exposed = at(2, 1e-12).exposed_s;
    const double bytes = static_cast<double>(elements_) * 4;
    const double buckets = std::round((exposed - 2 * 0.5 * bytes / 1e9) / (2 * 1e-5));
    EXPECT_GE(buckets, 8);
    EXPECT_LE(buckets, 10);
    EXPECT_NEAR(exposed, 2 * 0.5 * bytes / 1e9 + buckets * 2 * 1e-5, 1e-9);
    // Four ranks, two a host, go over the slower link.
    EXPECT_GT(at(4, 1e-12).exposed_s, 10 * exposed);
}

TEST_F(Scaling, BackwardHidesAllButTheLastBucket) {
    const double shown = at(2, 1e-12).exposed_s, hidden = at(2, 10.0).exposed_s;
    EXPECT_GT(hidden, 0) << "the last bucket has nothing to hide behind";
    EXPECT_LT(hidden, shown / 4);
    const double whole = at(2, 10.0).total();
    config_.train.zero = 1;  // the weights come back when there is nothing to hide behind
    EXPECT_GT(at(2, 10.0).total(), whole);
    config_.train.zero = 0;
    config_.train.deterministic_comm = true;
    EXPECT_GT(at(2, 1e-12, 8).exposed_s, 3 * shown) << "every micro-batch is sent";
}

TEST_F(CommandLine, PlansWithoutDataOrGpu) {
    const std::string recipe = std::string(PASTUR_SOURCE_DIR) + "/tools/recipes/130m-mla-decoupled.toml";
    const Result one = run("plan " + recipe), eight = run("plan " + recipe + " --gpus 8 --train.zero=1");
    ASSERT_EQ(one.code, 0) << one.err;
    ASSERT_EQ(eight.code, 0) << eight.err;
    for (const char* part :
         {"TFLOP a step", "activations", "alpha = 4.0 us", "max(end_(i-1), ready_i)", "4096"})
        EXPECT_NE(eight.out.find(part), std::string::npos) << part << "\n" << eight.out;
    EXPECT_NE(one.out.find("Adam moments (fp32)"), std::string::npos);
    EXPECT_NE(eight.out.find("Adam moments, own parts"), std::string::npos);
    expect_failure("plan " + recipe + " --gpus 3", 2, {"does not divide over 3 ranks"});
    expect_failure("plan " + recipe + " --gpus 0", 2, {"--gpus"});
}

}  // namespace
}  // namespace pastur::test
