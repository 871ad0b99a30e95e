// `pastur plan` and its scaling model.
#include "engine/bench/scaling_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/model/measure.h"
#include "engine/model/model.h"
#include "engine/model/recipe.h"
#include "engine/train/optimizer/gradient_sync.h"
#include "engine/train/optimizer/optimizer_state.h"
#include "kernels/base/op_timer.h"
#include "kernels/optimizer/muon.h"
#include "tests/support/command_line.h"
#include "tests/support/source_folder.h"

namespace pastur::test {
namespace {

class Scaling : public testing::Test {
  protected:
    StepTime at(int ranks, double compute_s, int64_t micro_batches = 2) {
        Model model(config_, DType::kF32, {1, 16});
        ParamTable& table = model.params().table();
        GradientSync::lay_out(config_.train, ranks, table);
        elements_ = table.total_elements();
        return predict_step(config_.train, table, links_, ranks, micro_batches, {compute_s, muon_s_});
    }
    Config config_ = parse_config("[model]\npreset = \"nano\"\n[data]\nseq_len = 16\n", "recipe", {});
    Links links_{1e-5, 1e9, 1e8, 2};
    int64_t elements_ = 0;
    double muon_s_ = 0;
};

TEST_F(Scaling, OneRankExchangesNothing) {
    EXPECT_EQ(at(1, 2.0).total(), 2.0);
    EXPECT_EQ(at(1, 2.0).efficiency(), 1.0);
}

TEST_F(Scaling, WithoutTimeToHideInEverythingShows) {
    // 2 (R - 1) alpha per bucket, and 2 (R - 1)/R of all bytes over B.
    const double exposed = at(2, 1e-12).exposed_s;
    const double bytes = static_cast<double>(elements_) * 4;
    const double buckets = std::round((exposed - 2 * 0.5 * bytes / 1e9) / (2 * 1e-5));
    EXPECT_GE(buckets, 8);
    EXPECT_LE(buckets, 10);
    EXPECT_NEAR(exposed, 2 * 0.5 * bytes / 1e9 + buckets * 2 * 1e-5, 1e-9);
    // Four ranks on two hosts use the slower link.
    EXPECT_GT(at(4, 1e-12).exposed_s, 10 * exposed);
}

TEST_F(Scaling, GradientsInBf16TakeHalfTheBytes) {
    links_.alpha_s = 0;
    const double whole = at(2, 1e-12).exposed_s;
    config_.train.comm_dtype = CommDtype::kBf16;
    EXPECT_NEAR(at(2, 1e-12).exposed_s, whole / 2, 1e-9);
    config_.train.zero = 1;  // half of the gradients', all of the weights'
    EXPECT_NEAR(at(2, 1e-12).exposed_s, whole * 3 / 4, 1e-9);
    config_.train.weights = StateFormat::kBf16;
    EXPECT_NEAR(at(2, 1e-12).exposed_s, whole / 2, 1e-9);
}

TEST_F(Scaling, BackwardHidesAllButTheLastBucket) {
    const double shown = at(2, 1e-12).exposed_s, hidden = at(2, 10.0).exposed_s;
    EXPECT_GT(hidden, 0) << "the last bucket is sent after backward";
    EXPECT_LT(hidden, shown / 4);
    const double whole = at(2, 10.0).total();
    config_.train.zero = 1;  // weights are gathered after the update, when nothing overlaps
    EXPECT_GT(at(2, 10.0).total(), whole);
    config_.train.zero = 0;
    config_.train.deterministic_comm = true;
    EXPECT_GT(at(2, 1e-12, 8).exposed_s, 3 * shown) << "every micro-batch is sent";
}

TEST_F(Scaling, MuonTakesItsTimeOnEveryRankUnlessTheyDivideItsMatrices) {
    const double without = at(4, 2.0).total();
    muon_s_ = 0.8;
    EXPECT_EQ(at(1, 2.0).total(), 2.8);
    EXPECT_NEAR(at(4, 2.0).total(), without + 0.8, 1e-12);
    config_.train.optimizer = OptimizerKind::kMuon;
    config_.train.zero = 1;
    // Four layers of equal matrices divide evenly.
    EXPECT_NEAR(at(4, 2.0).compute_s, 2.0 + 0.8 / 4, 1e-12);
    EXPECT_GT(at(3, 2.0).compute_s, 2.0 + 0.8 / 3) << "a rank has more matrices than another";
    EXPECT_EQ(at(1, 2.0).compute_s, 2.8);
}

TEST_F(Scaling, MuonsFlopsAreThoseThatItsUpdatesReport) {
    Context ctx = make_context(Device::kCpu);
    config_.model.layers = 1;
    Model model(config_, DType::kF32, {1, 16});
    double reported = 0;
    for (const Param& param : model.params().table().params()) {
        if (!is_muon_matrix(param)) continue;
        TensorPool pool(ctx, 1);
        const auto matrix = [&] { return pool.normal(DType::kF32, param.shape, 0.02f); };
        reserve_scratch(ctx, muon_scratch_bytes(param.shape[0], param.shape[1], DType::kF32));
        OpTimer timer(ctx);
        muon_step(ctx, {matrix(), matrix(), {}, matrix()}, pool.constant(DType::kF64, {1}, 1), {});
        reported += timer.collect()[static_cast<size_t>(OpFamily::kMuon)].flops;
    }
    EXPECT_GT(reported, 0);
    EXPECT_DOUBLE_EQ(muon_flops(model.params().table(), 1), reported);
}

TEST_F(CommandLine, PlansForMuonsTime) {
    const std::string recipe =
        "plan " + source_file("tools/recipes/nano-mha.toml") + " --device cpu --tflops 0.1";
    const Result adamw = run(recipe), muon = run(recipe + " --train.optimizer=muon");
    const auto step_ms = [](const Result& plan) {
        const std::string before = "predicted step on 1 rank: ";
        const size_t at = plan.out.find(before);
        return at == std::string::npos ? 0 : std::stod(plan.out.substr(at + before.size()));
    };
    const auto muon_ms = [](const Result& plan) {
        const std::string before = "TFLOP an update, take ";
        const size_t at = plan.out.find(before);
        return at == std::string::npos ? 0 : std::stod(plan.out.substr(at + before.size()));
    };
    EXPECT_EQ(muon_ms(adamw), 0) << adamw.out;
    EXPECT_GT(muon_ms(muon), 0) << muon.out << muon.err;
    EXPECT_NEAR(step_ms(muon), step_ms(adamw) + muon_ms(muon), 0.02) << muon.out;
    const Result measured =
        run(recipe +
            " --measure --train.global_batch=2 --train.optimizer=muon --model.layers=1 --data.seq_len=16");
    EXPECT_GT(muon_ms(measured), 0) << measured.out;
}

TEST_F(CommandLine, PlansWithoutDataOrGpu) {
    const std::string recipe = source_file("tools/recipes/130m-mla-decoupled.toml");
    const Result one = run("plan " + recipe), eight = run("plan " + recipe + " --gpus 8 --train.zero=1");
    ASSERT_EQ(one.code, 0) << one.err;
    ASSERT_EQ(eight.code, 0) << eight.err;
    for (const char* part :
         {"TFLOP per step", "activations", "alpha = 4.0 us", "max(end_(i-1), ready_i)", "4096"})
        EXPECT_NE(eight.out.find(part), std::string::npos) << part << "\n" << eight.out;
    EXPECT_NE(one.out.find("Adam moments (fp32)"), std::string::npos);
    EXPECT_NE(eight.out.find("Adam moments, own parts"), std::string::npos);
    expect_failure("plan " + recipe + " --gpus 3", 2, {"does not divide over 3 ranks"});
    expect_failure("plan " + recipe + " --gpus 0", 2, {"--gpus"});
}

TEST_F(CommandLine, IgnoresSettingsOfOtherVariantsWithALineEach) {
    write("study.toml", "[attention]\nkv_rank = 32\n[diagnostics]\nscopes = [\"layer\", \"rope\"]\n");
    const Result mha = run("plan study.toml --device cpu");
    EXPECT_EQ(mha.code, 0) << mha.err;
    EXPECT_EQ(std::count(mha.err.begin(), mha.err.end(), '\n'), 2) << mha.err;
    EXPECT_NE(mha.err.find("pastur: study.toml:2: [attention] kv_rank = 32 is ignored"), std::string::npos)
        << mha.err;
    EXPECT_NE(mha.err.find("pastur: study.toml:4: [diagnostics] scopes: \"rope\" is ignored"),
              std::string::npos)
        << mha.err;
    const Result decoupled = run("plan study.toml --device cpu --attention.variant=mla-decoupled");
    EXPECT_EQ(decoupled.code, 0);
    EXPECT_EQ(decoupled.err, "");
}

TEST_F(CommandLine, PlansForThisCpuWithoutInventingItsSpeed) {
    const std::string recipe =
        "plan " + std::string(PASTUR_SOURCE_DIR) + "/tools/recipes/nano-mha.toml --device cpu ";
    const Result unknown = run(recipe);
    EXPECT_EQ(unknown.code, 0) << unknown.err;
    EXPECT_NE(unknown.out.find("step time: unknown on this CPU; --measure"), std::string::npos)
        << unknown.out;
    EXPECT_EQ(unknown.out.find("hours"), std::string::npos) << unknown.out;
    const Result given = run(recipe + "--tflops 0.1");
    EXPECT_NE(given.out.find("(0.100 TFLOP/s, assumed by --tflops)"), std::string::npos) << given.out;
    EXPECT_NE(given.out.find("hours"), std::string::npos) << given.out;
    const Result measured = run(recipe + "--measure --train.global_batch=2");
    EXPECT_NE(measured.out.find("TFLOP/s, measured)"), std::string::npos) << measured.out;
}

/// The memory of a rank with train.recompute = "none" in the table of micro-batches, in MiB; 0: no such row.
double total_of(const std::string& plan, int micro_batch) {
    const std::string row = fmt::format("\n  {:<18}", micro_batch);
    const size_t at = plan.find(row, plan.find("train.micro_batch"));
    if (at == std::string::npos) return 0;
    return std::stod(plan.substr(at + row.size()));
}

TEST_F(CommandLine, PlansOtherMicroBatches) {
    const std::string recipe = source_file("tools/recipes/130m-mha.toml");
    const std::string two = run("plan " + recipe).out,
                      one = run("plan " + recipe + " --train.micro_batch=512").out,
                      six = run("plan " + recipe + " --gpus 2 --train.global_batch=12 --train.micro_batch=2")
                                .out;
    EXPECT_NE(two.find(fmt::format("total{:>31.1f} MiB", total_of(two, 256))), std::string::npos) << two;
    EXPECT_NE(one.find(fmt::format("total{:>31.1f} MiB", total_of(one, 512))), std::string::npos) << one;
    EXPECT_GT(total_of(two, 64), 0);
    EXPECT_EQ(total_of(two, 512), total_of(one, 512));
    EXPECT_EQ(total_of(two, 1024), 0) << "more than the batch";
    EXPECT_GT(total_of(six, 1), 0);
    EXPECT_GT(total_of(six, 2), 0);
    EXPECT_EQ(total_of(six, 4), 0) << "4 does not divide a rank's 6 sequences";
}

}  // namespace
}  // namespace pastur::test
