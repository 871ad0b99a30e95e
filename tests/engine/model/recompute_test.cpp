// train.recompute: less memory, more FLOPs, the same bits.
#include "engine/model/recompute.h"

#include "engine/model/recipe.h"
#include "engine/train/memory_plan.h"
#include "kernels/base/op_timer.h"
#include "tests/support/command_line.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/source_folder.h"

namespace pastur::test {
namespace {

constexpr BatchShape kShape{2, 5};

class RecomputeLevels : public OpTest<VariantCase> {
  protected:
    /// Three layers, so one is neither the first nor the last.
    Config config(RecomputeSetting recompute) const {
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
    for (const Recompute level : kRecomputeLevels) {
        ModelUnderTest model(config(level), ctx(), dtype(), kShape);
        if (weights.empty()) weights = model.random_weights(random_, dtype());
        model.set_weights(weights);
        model.forward_backward(first);
        model.forward_backward(second, Update::kAccumulate);
        if (level == Recompute::kNone) {
            kept = model.gradients();
            kept_losses = model.losses();
        }
        EXPECT_EQ(model.gradients(), kept) << name_of(level);
        EXPECT_EQ(model.losses(), kept_losses) << name_of(level);
    }
}

TEST_P(RecomputeLevels, TakeWhatIsPlannedAndEachLess) {
    int64_t before = INT64_MAX;
    for (const Recompute level : kRecomputeLevels) {
        Model model(config(level), dtype(), kShape);
        const Planner planned = model.measure(ctx());
        model.allocate(ctx(), true);
        EXPECT_EQ(model.allocated_bytes(), planned.bytes()) << name_of(level);
        EXPECT_LT(planned.bytes(), before) << name_of(level);
        before = planned.bytes();
    }
}

TEST_P(RecomputeLevels, CostTheFlopsThatArePromised) {
    const TokenBatch batch = random_batch(random_, kShape, 19);
    double kept = 0, promised = -1;
    for (const Recompute level : kRecomputeLevels) {
        Config recipe = config(level);
        recipe.model.ffn = 16;  // nothing is padded
        recipe.data.seq_len = kShape.time;
        ModelUnderTest model(recipe, ctx(), dtype(), kShape);
        model.model().params().initialise(ctx(), 1);
        double flops = 0;
        {
            OpTimer timer(ctx());
            model.forward_backward(batch);
            const OpTotals totals = timer.collect();
            for (size_t family = 0; family < kOpFamilies; ++family)
                if (family !=
                    static_cast<size_t>(OpFamily::kTemporalMerge))  // GEMMs with positions, not tokens
                    flops += totals[family].flops;
        }
        if (level == Recompute::kNone) kept = flops;
        const double extra = recompute_flops_per_token(level, recipe, model.model().params().table());
        EXPECT_NEAR((flops - kept) / static_cast<double>(kShape.tokens()), extra, 1e-6 * extra)
            << name_of(level);
        EXPECT_GE(extra, promised) << name_of(level);
        promised = extra;
    }
    EXPECT_GT(promised, 0);
}

TEST_P(RecomputeLevels, AreNamedWhereOneOfThemFits) {
    const Model model(config(Recompute::kNone), dtype(), kShape);
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
        EXPECT_NE(text.find(fmt::format("set train.recompute = \"{}\"", name_of(choices[i].level))),
                  std::string::npos)
            << text;
    }
    const std::string none = message(plan.total_with(choices.back().activations) - 1);
    EXPECT_NE(none.find("\"block\" would still need"), std::string::npos) << none;
}

TEST_P(RecomputeLevels, AreChosenByFreeMemory) {
    const std::unique_ptr<Comm> comm = make_single_comm();
    Model model(config({}), dtype(), kShape);
    EXPECT_EQ(model.recompute(), Recompute::kNone);
    const std::vector<RecomputeChoice> choices = recompute_choices(ctx(), model);
    for (const RecomputeChoice& choice : choices) {
        MemoryPlan plan = plan_memory(ctx(), model, nullptr);
        const auto total = static_cast<double>(plan.total_with(choice.activations));
        const auto free_bytes = static_cast<int64_t>(total / kRecomputeAutoShare) + 1;
        plan.settle_recompute({free_bytes, 1 << 30}, ctx(), *comm, model);
        EXPECT_EQ(model.recompute(), choice.level);
        EXPECT_EQ(plan.total(), static_cast<int64_t>(total));
        EXPECT_EQ(plan.total(), plan_memory(ctx(), model, nullptr).total());
    }
    // None fits: the least, and the plan's own error.
    MemoryPlan plan = plan_memory(ctx(), model, nullptr);
    plan.settle_recompute({1, 1 << 30}, ctx(), *comm, model);
    EXPECT_EQ(model.recompute(), Recompute::kBlock);
    expect_error(ExitCode::kNoDevice, {"MiB needed", "\"block\" would still need", "train.micro_batch"}, [&] {
        plan.check_fits({1, 1 << 30}, ctx(), model);
    });
    // A level that is named stays, whatever there is.
    Model named(config(Recompute::kFfn), dtype(), kShape);
    plan = plan_memory(ctx(), named, nullptr);
    const int64_t before = plan.total();
    plan.settle_recompute({1, 1 << 30}, ctx(), *comm, named);
    EXPECT_EQ(named.recompute(), Recompute::kFfn);
    EXPECT_EQ(plan.total(), before);
}

INSTANTIATE_TEST_SUITE_P(Model, RecomputeLevels, every_target<VariantCase>(every_attention()),
                         case_name<VariantCase>);

TEST(RecomputeAuto, TakesTheFirstWithinItsShare) {
    const std::vector<int64_t> totals = {900, 720, 450, 90};
    EXPECT_EQ(first_that_fits(totals, 1 << 20), Recompute::kNone);
    EXPECT_EQ(first_that_fits(totals, 1000), Recompute::kNone);
    EXPECT_EQ(first_that_fits(totals, 999), Recompute::kNorms);
    EXPECT_EQ(first_that_fits(totals, 799), Recompute::kFfn);
    EXPECT_EQ(first_that_fits(totals, 499), Recompute::kBlock);
    // Beyond the share, and beyond what there is: whether that fits is the plan's to say.
    EXPECT_EQ(first_that_fits(totals, 95), Recompute::kBlock);
    EXPECT_EQ(first_that_fits(totals, 0), Recompute::kBlock);
}

TEST(RecomputeNames, ReadAnOlderRecipe) {
    const auto read = [](const std::string& toml, const std::vector<Override>& overrides) {
        return parse_config(toml, "r", overrides).train.recompute;
    };
    EXPECT_EQ(read("[train]\nrecompute = \"cheap\"\n", {}), Recompute::kNorms);
    EXPECT_EQ(read("", {{"train.recompute", "cheap"}}), Recompute::kNorms);
    EXPECT_EQ(read("", {}), std::nullopt);
    EXPECT_EQ(read("", {{"train.recompute", "auto"}}), std::nullopt);
    for (const Recompute level : kRecomputeLevels)
        EXPECT_EQ(read("", {{"train.recompute", name_of(level)}}), level);
    EXPECT_NE(to_toml(parse_config("", "r", {})).find("recompute = \"auto\"\n"), std::string::npos);
    expect_error(ExitCode::kUsage, {"did you mean \"block\""},
                 [] { parse_config("[train]\nrecompute = \"blok\"\n", "r", {}); });
}

/// Two layers that share memory by Turns, a tensor kept after them, and temporaries.
TEST(Planners, CarveWhatTheyMeasured) {
    struct Tensors {
        Tensor kept, first, second, later, temporary;
    };
    const auto plan = [](Planner& planner) {
        Tensors tensors;
        tensors.kept = planner.keep(DType::kF32, {100});
        for (Tensor* tensor : {&tensors.first, &tensors.second}) {
            const Planner::Turn turn(planner);
            *tensor = planner.keep(DType::kF32, {tensor == &tensors.first ? 300 : 200});
            Planner::Temporaries temporaries(planner);
            tensors.temporary = temporaries.take(DType::kF32, {50});
        }
        tensors.later = planner.keep(DType::kF32, {10});
        return tensors;
    };
    Planner measured;
    plan(measured);
    EXPECT_EQ(measured.bytes(), align_up(400) + align_up(1200) + align_up(40) + align_up(200));
    const Buffer buffer = allocate(context(Device::kCpu), measured.bytes());
    Planner carving(buffer, measured);
    const Tensors tensors = plan(carving);
    EXPECT_EQ(carving.bytes(), measured.bytes());
    EXPECT_EQ(tensors.first.bytes(), tensors.second.bytes());
    // The parts lie one behind the other and end with the buffer.
    EXPECT_EQ(tensors.kept.bytes(), buffer.data());
    EXPECT_EQ(tensors.later.bytes(), tensors.kept.bytes() + align_up(400));
    EXPECT_EQ(tensors.first.bytes(), tensors.later.bytes() + align_up(40));
    EXPECT_EQ(tensors.temporary.bytes(), tensors.first.bytes() + align_up(1200));
    EXPECT_EQ(tensors.temporary.bytes() + align_up(200), buffer.data() + buffer.bytes());
}

class RecomputePlan : public CommandLine {
  protected:
    struct Row {
        std::string name;
        double activations, total, extra;  ///< MiB, MiB, % of a step
        bool chosen;
    };
    /// The table of levels that `pastur plan` prints; total: that of the plan above it.
    std::vector<Row> rows_of(const std::string& recipe, double* total = nullptr) const {
        const Result result = run("plan " + source_file("tools/recipes/") + recipe);
        EXPECT_EQ(result.code, 0) << result.err;
        std::istringstream lines(result.out);
        std::vector<Row> rows;
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words(line);
            Row row{};
            if (!(words >> row.name >> row.activations)) continue;
            if (row.name == "total" && total) *total = row.activations;
            row.chosen = line.find("this recipe") != std::string::npos;
            if (words >> row.total >> row.extra) rows.push_back(row);
            if (rows.size() == kRecomputeLevels.size()) break;
        }
        return rows;
    }
};

TEST_F(RecomputePlan, ShowsEveryLevel) {
    double total = 0;
    const std::vector<Row> rows = rows_of("130m-mha.toml --train.recompute=ffn", &total);
    ASSERT_EQ(rows.size(), kRecomputeLevels.size());
    for (size_t i = 0; i < rows.size(); ++i) {
        EXPECT_EQ(rows[i].name, name_of(kRecomputeLevels[i]));
        EXPECT_EQ(rows[i].chosen, rows[i].name == "ffn");
        if (i == 0) continue;
        EXPECT_LT(rows[i].total, rows[i - 1].total);
        EXPECT_LT(rows[i].activations, rows[i - 1].activations);
        EXPECT_GE(rows[i].extra, rows[i - 1].extra);
    }
    EXPECT_DOUBLE_EQ(rows[2].total, total);
    // The design's bound at 130m.
    EXPECT_LT(rows[1].total, 18.0 * 1024);
}

TEST_F(RecomputePlan, NamesWhatAutoTakes) {
    const std::string recipe = source_file("tools/recipes/130m-mha.toml");
    // Without a GPU: the free memory of the one that is planned for is unknown.
    const Result gpu = run("plan " + recipe, "CUDA_VISIBLE_DEVICES=");
    ASSERT_EQ(gpu.code, 0) << gpu.err;
    EXPECT_NE(gpu.out.find("at most 90 % of a GPU's free memory"), std::string::npos) << gpu.out;
    // On this machine's own memory: a small model recomputes nothing, and a huge batch fits no machine.
    const std::string nano = "plan " + recipe + " --device cpu --model.preset=nano --data.seq_len=16 ";
    const Result small = run(nano + "--train.global_batch=1");
    ASSERT_EQ(small.code, 0) << small.err;
    EXPECT_NE(small.out.find("train.recompute = \"none\":"), std::string::npos) << small.out;
    EXPECT_NE(small.out.find("takes the first within 90 % of"), std::string::npos) << small.out;
    const Result huge = run(nano + "--train.global_batch=4194304 --train.micro_batch=4194304");
    ASSERT_EQ(huge.code, 0) << huge.err;
    EXPECT_NE(huge.out.find("train.recompute = \"block\":"), std::string::npos) << huge.out;
    EXPECT_NE(huge.out.find(": none fits"), std::string::npos) << huge.out;
}

TEST_F(RecomputePlan, Fits7bOnOneH200) {
    constexpr double kFreeMib = 139.0 * 1024;
    for (const char* recipe : {"7b-mha.toml", "7b-mla-prerope.toml", "7b-mla-decoupled.toml"}) {
        const std::vector<Row> rows = rows_of(recipe);
        ASSERT_EQ(rows.size(), kRecomputeLevels.size()) << recipe;
        EXPECT_TRUE(rows[3].chosen) << recipe;
        EXPECT_LT(rows[3].total, kFreeMib) << recipe;
        EXPECT_GT(rows[1].total, kFreeMib) << recipe << " would fit without `block`";
    }
}

}  // namespace
}  // namespace pastur::test
