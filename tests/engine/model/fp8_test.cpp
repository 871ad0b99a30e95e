// train.precision = "fp8" in a whole network: which GEMMs are in fp8, and what that does to losses and
// gradients.
#include <cmath>

#include "engine/model/recipe.h"
#include "engine/train/memory_plan.h"
#include "engine/train/train_step.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

constexpr BatchShape kShape{2, 16};

/// fp8_from: least number of outputs, and least side of a weight gradient, for fp8; empty: no fp8.
Config recipe(const VariantCase& variant, const std::string& fp8_from) {
    const std::string train =
        fp8_from.empty()
            ? ""
            : fmt::format("precision = \"fp8\"\nfp8_min_outputs = {}\nfp8_min_gradient_side = {}\n", fp8_from,
                          fp8_from);
    return parse_config(
        "[model]\npreset = \"nano\"\nvocab = 61\nd_model = 64\nlayers = 2\nheads = 4\nffn = 160\n" +
            variant.model + "\n[attention]\n" + variant.attention +
            "\n[data]\nseq_len = 16\n[train]\nglobal_batch = 2\nmicro_batch = 2\nlr = 3e-3\n" + train,
        "recipe", {});
}

/// All sides are multiples of 16, except for the value latent of prerope_odd, which misaligns the rows that
/// follow it.
const std::vector<VariantCase> kVariants = {
    {"mha", "variant = \"mha\"", ""},
    {"mha_tied", "variant = \"mha\"", "tie_embeddings = true"},
    {"prerope_keys", "variant = \"mla-prerope\"", ""},
    {"prerope_odd", "variant = \"mla-prerope\"\nk_rank = 16\nv_rank = 13", ""},
    {"prerope_input", "variant = \"mla-prerope\"\nprerope_site = \"input\"", ""},
    {"decoupled", "variant = \"mla-decoupled\"", ""},
    {"decoupled_q_rank", "variant = \"mla-decoupled\"\nq_rank = 32", ""},
    {"shared_rope", "variant = \"mha-shared-rope\"", ""},
    {"mla_rope", "variant = \"mla-rope\"", ""},
    {"mla_nope", "variant = \"mla-nope\"", ""},
    {"mtla", "variant = \"mtla\"", ""},
};

class Fp8Model : public OpTest<VariantCase> {
  protected:
    void SetUp() override {
        if (!has_fp8(ctx())) GTEST_SKIP() << device_name(ctx()) << " has no GEMM of e4m3 numbers";
    }
    struct Outcome {
        std::vector<double> losses;
        NamedValues weights;
    };
    Outcome train(const Config& config, int64_t steps) {
        const std::unique_ptr<Comm> comm = make_single_comm();
        ModelUnderTest subject(config, ctx(), dtype(), kShape);
        Optimizer optimizer(config.train, subject.model().params());
        optimizer.allocate(ctx());
        subject.model().params().initialise(ctx(), 1);
        TrainStep step(config, ctx(), *comm, subject.model(), optimizer);
        Random tokens(5);
        const TokenBatch batch = random_batch(tokens, kShape, config.model.vocab);
        Outcome outcome;
        for (int64_t i = 0; i < steps; ++i)
            outcome.losses.push_back(step.run([&] { return batch; }, i, config.train.lr).loss);
        outcome.weights = subject.weights();
        return outcome;
    }
};

/// ||a - b|| / ||b|| over all tensors.
double distance(const NamedValues& a, const NamedValues& b) {
    double error = 0, size = 0;
    for (const auto& [name, want] : b)
        for (size_t i = 0; i < want.size(); ++i) {
            error += std::pow(a.at(name)[i] - want[i], 2);
            size += want[i] * want[i];
        }
    return std::sqrt(error / size);
}

TEST_P(Fp8Model, GradientsAreThoseOfFullPrecisionToRounding) {
    ModelUnderTest exact(recipe(shape(), ""), ctx(), dtype(), kShape);
    ModelUnderTest in_fp8(recipe(shape(), "16"), ctx(), dtype(), kShape);
    const NamedValues weights = exact.random_weights(random_, dtype());
    exact.set_weights(weights);
    in_fp8.set_weights(weights);
    const TokenBatch batch = random_batch(random_, kShape, 61);
    const double loss = exact.forward_backward(batch), loss_in_fp8 = in_fp8.forward_backward(batch);
    EXPECT_NEAR(loss_in_fp8, loss, 0.05 * loss);
    const double difference = distance(in_fp8.gradients(), exact.gradients());
    // e4m3 has a mantissa of 4 bits: each of about ten GEMMs in a row adds 2 to 4 %.
    EXPECT_LT(difference, 0.35);
    EXPECT_GT(difference, 0.01) << "nothing was quantised";
}

TEST_P(Fp8Model, LearnsAsInFullPrecision) {
    const Outcome exact = train(recipe(shape(), ""), 40), in_fp8 = train(recipe(shape(), "16"), 40);
    const double gain = exact.losses.front() - exact.losses.back();
    EXPECT_GT(gain, 0.5);
    EXPECT_NE(in_fp8.losses, exact.losses);
    EXPECT_NEAR(in_fp8.losses.back(), exact.losses.back(), 0.15 * gain);
}

TEST_P(Fp8Model, RecomputingChangesNoBit) {
    Config config = recipe(shape(), "16");
    config.train.recompute = Recompute::kNone;
    const Outcome kept = train(config, 3);
    for (const Recompute level : {Recompute::kFfn, Recompute::kBlock}) {
        config.train.recompute = level;
        const Outcome again = train(config, 3);
        EXPECT_EQ(again.losses, kept.losses) << name_of(level);
        EXPECT_EQ(again.weights, kept.weights) << name_of(level);
    }
}

TEST_P(Fp8Model, ProductsTooNarrowStayAsTheyAre) {
    const Outcome exact = train(recipe(shape(), ""), 3), wide = train(recipe(shape(), "100000"), 3);
    EXPECT_EQ(wide.losses, exact.losses);
    EXPECT_EQ(wide.weights, exact.weights);
}

INSTANTIATE_TEST_SUITE_P(Model, Fp8Model, every_target(kVariants), case_name<VariantCase>);

TEST(Fp8Weights, TakeWhatIsWideEnoughAndFits) {
    // q+k+v [192, 64], o [64, 64], gate+up [320, 64], down [64, 160]: in two layers.
    const auto model = [](const std::string& min_outputs, const std::string& ffn = "160") {
        Config config = recipe(kVariants.front(), min_outputs);
        config.model.ffn = std::stoll(ffn);
        return std::make_unique<Model>(config, DType::kF32, kShape);
    };
    const auto describe = [](const Model& subject) { return subject.params().fp8().describe(); };
    EXPECT_EQ(describe(*model("")), "");
    EXPECT_EQ(model("")->params().fp8().bytes(), 0);
    EXPECT_EQ(
        describe(*model("16")),
        "fp8 (e4m3): 16 of the layers' 16 forward and input-gradient GEMMs (at least 16 outputs) and 8 of "
        "8 weight gradients (at least 16 rows and columns)\n");
    EXPECT_EQ(
        describe(*model("160")),
        "fp8 (e4m3): 6 of the layers' 16 forward and input-gradient GEMMs (at least 160 outputs) and 0 of "
        "8 weight gradients (at least 160 rows and columns)\n");
    // Rows of gate+up and q+k+v and columns of down, with a scale of 4 bytes per row: 2 x (320 + 192 + 160) x
    // 64.
    EXPECT_GE(model("160")->params().fp8().bytes(), 2 * (320 + 192 + 160) * (64 + 4));
    EXPECT_LT(model("160")->params().fp8().bytes(), 2 * (320 + 192 + 160) * (64 + 4) + 12 * kAlignment);
    // 168 is not padded: gate+up has 336 rows, down 168 columns.
    EXPECT_EQ(
        describe(*model("160", "168")),
        "fp8 (e4m3): 4 of the layers' 16 forward and input-gradient GEMMs (at least 160 outputs) and 0 of "
        "8 weight gradients (at least 160 rows and columns); 2 that are wide enough have a matrix with a "
        "side that is not a multiple of 16\n");
}

TEST(Fp8Weights, AreInTheMemoryPlan) {
    Context& ctx = context(Device::kCpu);
    Model model(recipe(kVariants.front(), "16"), DType::kF32, kShape);
    const MemoryPlan plan = plan_memory(ctx, model, nullptr);
    int64_t found = 0;
    for (const MemoryPlan::Entry& entry : plan.entries)
        if (entry.name == "weights (fp8)") found = entry.bytes;
    EXPECT_EQ(found, model.params().fp8().bytes());
    EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace pastur::test
