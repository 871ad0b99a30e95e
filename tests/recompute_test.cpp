// train.recompute: less memory, more FLOPs, the same bits.
#include "engine/recompute.h"

#include "engine/memory_plan.h"
#include "kernels/op_timer.h"
#include "tests/command_line.h"
#include "tests/expect_error.h"
#include "tests/model_harness.h"

namespace pastur::test {
namespace {

constexpr BatchShape kShape{2, 5};

class RecomputeLevels : public OpTest<VariantCase> {
  protected:
    /// Three layers: one between the first and the last.
    Config config(const std::string& recompute) const {
        Config config = tiny_config(shape().attention, shape().model);
        config.model.layers = 3;
        config.train.recompute = recompute;
        return config;
    }
};

TEST_P(RecomputeLevels, ChangeNoBit) {
    const TokenBatch first = random_batch(random_, kShape, 19), second = random_batch(random_, kShape, 19);
    NamedValues weights, kept;
    std::vector<double> kept_losses;
    for (const std::string& level : recompute_names()) {
        ModelUnderTest model(config(level), ctx(), dtype(), kShape);
        if (weights.empty()) weights = model.random_weights(random_, dtype());
        model.set_weights(weights);
        model.forward_backward(first);
        model.forward_backward(second, Update::kAccumulate);
        if (level == "none") {
            kept = model.gradients();
            kept_losses = model.losses();
        }
        EXPECT_EQ(model.gradients(), kept) << level;
        EXPECT_EQ(model.losses(), kept_losses) << level;
    }
}

TEST_P(RecomputeLevels, TakeWhatIsPlannedAndEachLess) {
    int64_t before = INT64_MAX;
    for (const std::string& level : recompute_names()) {
        Model model(config(level), dtype(), kShape);
        const Planner planned = model.measure(ctx());
        model.allocate(ctx(), true);
        EXPECT_EQ(model.allocated_bytes(), planned.bytes()) << level;
        EXPECT_LT(planned.bytes(), before) << level;
        before = planned.bytes();
    }
}

TEST_P(RecomputeLevels, CostTheFlopsThatArePromised) {
    const TokenBatch batch = random_batch(random_, kShape, 19);
    double kept = 0, promised = -1;
    for (const std::string& level : recompute_names()) {
        Config recipe = config(level);
        recipe.model.ffn = 16;  // nothing is padded
        recipe.data.seq_len = kShape.time;
        ModelUnderTest model(recipe, ctx(), dtype(), kShape);
        model.model().params().initialise(ctx(), 1);
        double flops = 0;
        {
            OpTimer timer(ctx());
            model.forward_backward(batch);
            for (const OpTotal& family : timer.collect()) flops += family.flops;
        }
        if (level == "none") kept = flops;
        const double extra = recompute_flops_per_token(recipe, model.model().params().table());
        EXPECT_NEAR((flops - kept) / static_cast<double>(kShape.tokens()), extra, 1e-6 * extra) << level;
        EXPECT_GE(extra, promised) << level;
        promised = extra;
    }
    EXPECT_GT(promised, 0);
}

TEST_P(RecomputeLevels, AreNamedWhereOneOfThemFits) {
    const Model model(config("none"), dtype(), kShape);
    const std::vector<RecomputeChoice> choices = recompute_choices(ctx(), model);
    MemoryPlan plan{{{"weights", 1000}}};
    const int64_t activations = choices[0].activations.bytes() + choices[0].activations.scratch_bytes();
    plan.entries.push_back({"activations", activations});
    const auto message = [&](int64_t free_bytes) -> std::string {
        try {
            plan.check_fits({free_bytes, 1 << 30}, ctx(), model);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::kNoDevice);
            return error.what();
        }
        return "";
    };
    EXPECT_EQ(message(plan.total()), "");
    for (size_t i = 1; i < choices.size(); ++i) {
        const std::string text = message(plan.total_with(choices[i].activations));
        EXPECT_NE(text.find("set train.recompute = \"" + choices[i].name + "\""), std::string::npos) << text;
    }
    const std::string none = message(plan.total_with(choices.back().activations) - 1);
    EXPECT_NE(none.find("\"block\" would still need"), std::string::npos) << none;
}

INSTANTIATE_TEST_SUITE_P(Model, RecomputeLevels, every_target<VariantCase>(every_attention()),
                         case_name<VariantCase>);

TEST(RecomputeNames, ReadAnOlderRecipe) {
    EXPECT_EQ(parse_config("[train]\nrecompute = \"cheap\"\n", "r", {}).train.recompute, "norms");
    EXPECT_EQ(parse_config("", "r", {{"train.recompute", "cheap"}}).train.recompute, "norms");
    EXPECT_EQ(parse_config("", "r", {}).train.recompute, "norms");
    expect_error(ExitCode::kUsage, {"did you mean \"block\""},
                 [] { parse_config("[train]\nrecompute = \"blok\"\n", "r", {}); });
}

TEST_F(CommandLine, PlanShowsEveryLevelOfRecomputing) {
    const std::string recipe = std::string(PASTUR_SOURCE_DIR) + "/tools/recipes/130m-mha.toml";
    const Result result = run("plan " + recipe + " --train.recompute=ffn");
    ASSERT_EQ(result.code, 0) << result.err;
    std::istringstream lines(result.out);
    double total = 0, before = 1e18;
    size_t rows = 0;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string name;
        double activations = 0, whole = 0, extra = 0;
        if (!(words >> name >> activations)) continue;
        if (name == "total") total = activations;
        if (rows == recompute_names().size() || name != recompute_names()[rows]) continue;
        ASSERT_TRUE(words >> whole >> extra) << line;
        EXPECT_LT(whole, before) << line;
        before = whole;
        EXPECT_EQ(line.find("this recipe") != std::string::npos, name == "ffn") << line;
        if (name == "ffn") {
            EXPECT_DOUBLE_EQ(whole, total) << line;
        }
        ++rows;
    }
    EXPECT_EQ(rows, recompute_names().size()) << result.out;
}

}  // namespace
}  // namespace pastur::test
