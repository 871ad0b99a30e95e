// A training step by CUDA graphs gives the bits of one that launches kernel by kernel.
#include "engine/train/train_step.h"

#include "engine/model/recipe.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

struct Outcome {
    std::vector<double> losses, norms;
    NamedValues weights;
    int64_t replayed = 0;
};

constexpr int64_t kSteps = 6;

class Steps : public OpTest<VariantCase> {
  protected:
    /// On a GPU the model is large enough for Hopper attention and for GEMMs that are worth a search.
    Config recipe(int64_t micro_batches, const std::string& recompute,
                  const std::string& precision = "auto") const {
        const std::string sizes =
            on_cuda() ? "d_model = 256\nheads = 4\nffn = 2048\n" : "d_model = 32\nheads = 2\nffn = 48\n";
        return parse_config(
            fmt::format("[model]\nvocab = 97\nlayers = 3\n{}[attention]\n{}\n[data]\nseq_len = {}\n"
                        "[train]\nglobal_batch = {}\nmicro_batch = 4\ngrad_clip = 1.0\nlr = 1e-3\n"
                        "weight_decay = 0.1\nrecompute = \"{}\"\nprecision = \"{}\"\nfp8_min_outputs = 32\n"
                        "fp8_min_gradient_side = 32\n",
                        sizes, shape().attention, on_cuda() ? 256 : 16, 4 * micro_batches, recompute,
                        precision),
            "recipe", {});
    }

    Outcome train(Config config, bool graph) {
        config.train.cuda_graph = graph;
        const std::unique_ptr<Comm> comm = make_single_comm();
        const BatchShape batch_shape{config.train.micro_batch, config.data.seq_len};
        ModelUnderTest subject(config, ctx(), dtype(), batch_shape);
        Optimizer optimizer(config.train, subject.model().params());
        optimizer.allocate(ctx());
        subject.model().params().initialise(ctx(), 1);
        TrainStep step(config, ctx(), *comm, subject.model(), optimizer);
        Random tokens(7);
        Outcome outcome;
        for (int64_t i = 0; i < kSteps; ++i) {
            const TrainStep::Result result = step.run(
                [&] { return random_batch(tokens, batch_shape, config.model.vocab); }, i, config.train.lr);
            outcome.losses.push_back(result.loss);
            outcome.norms.push_back(result.grad_norm);
        }
        outcome.weights = subject.weights();
        outcome.replayed = step.replayed();
        return outcome;
    }
};

TEST_P(Steps, AreTheSameBitsByGraphs) {
    for (const int64_t micro_batches : {1, 2}) {
        const Outcome launched = train(recipe(micro_batches, "none"), false);
        EXPECT_EQ(launched.replayed, 0);
        EXPECT_NE(launched.losses.front(), launched.losses.back());
        for (const char* recompute : {"none", "block"}) {
            const Outcome replayed = train(recipe(micro_batches, recompute), true);
            EXPECT_EQ(replayed.losses, launched.losses) << micro_batches << " " << recompute;
            EXPECT_EQ(replayed.norms, launched.norms) << micro_batches << " " << recompute;
            EXPECT_EQ(replayed.weights, launched.weights) << micro_batches << " " << recompute;
            EXPECT_EQ(replayed.replayed, on_cuda() ? (kSteps - 1) * micro_batches : 0);
        }
    }
}

TEST_P(Steps, AreTheSameBitsByGraphsInFp8) {
    if (!has_fp8(ctx())) GTEST_SKIP() << device_name(ctx()) << " has no e4m3 GEMMs";
    const Outcome launched = train(recipe(2, "none", "fp8"), false);
    const Outcome replayed = train(recipe(2, "none", "fp8"), true);
    EXPECT_EQ(replayed.losses, launched.losses);
    EXPECT_EQ(replayed.weights, launched.weights);
    EXPECT_EQ(replayed.replayed, on_cuda() ? (kSteps - 1) * 2 : 0);
    EXPECT_NE(launched.losses, train(recipe(2, "none"), false).losses);
}

/// A single rank with a required order of summation also sends its buckets, to itself, so it uses no graph.
TEST_P(Steps, AreLaunchedWhereBucketsLeave) {
    Config config = recipe(2, "norms");
    config.train.deterministic_comm = true;
    const std::unique_ptr<Comm> comm = make_single_comm();
    const BatchShape batch_shape{config.train.micro_batch, config.data.seq_len};
    Model model(config, dtype(), batch_shape);
    GradientSync::lay_out(config.train, 1, model.params().table());
    Optimizer optimizer(config.train, model.params());
    model.allocate(ctx(), true);
    optimizer.allocate(ctx());
    model.params().initialise(ctx(), 1);
    TrainStep step(config, ctx(), *comm, model, optimizer);
    for (int64_t i = 0; i < 3; ++i)
        EXPECT_TRUE(step.run([&] { return random_batch(random_, batch_shape, config.model.vocab); }, i, 1e-3)
                        .updated);
    EXPECT_EQ(step.replayed(), 0);
}

/// train.qk_clip scales the weights of after the update, by the largest logit of before it.
TEST(QkClipStep, ScalesWhatTheUpdateLeft) {
    Context& ctx = context(Device::kCpu);
    const auto step = [&](double limit) {
        Config config = parse_config(
            "[model]\nvocab = 19\nd_model = 12\nlayers = 1\nheads = 1\nhead_dim = 6\nffn = 10\n[data]\n"
            "seq_len = 5\n[train]\nglobal_batch = 2\nmicro_batch = 2\n",
            "recipe", {});
        config.train.qk_clip = limit;
        const BatchShape batch{2, config.data.seq_len};
        ModelUnderTest subject(config, ctx, DType::kF32, batch);
        Optimizer optimizer(config.train, subject.model().params());
        optimizer.allocate(ctx);
        Random random(3);
        subject.set_weights(subject.random_weights(random, DType::kF32));
        const std::unique_ptr<Comm> comm = make_single_comm();
        TrainStep train(config, ctx, *comm, subject.model(), optimizer);
        const auto result =
            train.run([&] { return random_batch(random, batch, config.model.vocab); }, 0, 1e-2);
        return std::pair(result, subject.weights());
    };
    const auto [free, left] = step(1e30);
    const double limit = 0.4 * free.qk_clip->max_logit;
    ASSERT_GT(limit, 0);
    const auto [clipped, scaled] = step(limit);
    EXPECT_EQ(clipped.loss, free.loss);
    EXPECT_EQ(clipped.qk_clip->max_logit, free.qk_clip->max_logit);
    EXPECT_EQ(clipped.qk_clip->heads_scaled, 1);
    const auto factor = static_cast<float>(std::sqrt(limit / free.qk_clip->max_logit));
    for (const auto& [name, weights] : left) {
        const bool scales =
            name.find("q_proj") != std::string::npos || name.find("k_proj") != std::string::npos;
        std::vector<double> want(weights);
        for (double& w : want) w = scales ? static_cast<float>(w) * factor : w;
        EXPECT_EQ(scaled.at(name), want) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Training, Steps,
                         every_target(every_variant(
                             {{"prerope_input", "variant = \"mla-prerope\"\nprerope_site = \"input\"", ""}})),
                         case_name<VariantCase>);

}  // namespace
}  // namespace pastur::test
