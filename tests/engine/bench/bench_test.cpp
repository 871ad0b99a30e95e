// The benchmark: timers change no bit, op families sum to the step, reports are complete.
#include "engine/bench/bench.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/bench/bench_ops.h"
#include "engine/model/attention/variants.h"
#include "engine/model/measure.h"
#include "engine/model/recipe.h"
#include "kernels/fill.h"
#include "kernels/matmul.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"
#include "tools/pastur/bench/bench_report.h"

namespace pastur::test {
namespace {

class Bench : public OpTest<VariantCase> {
  protected:
    Config recipe() const {
        return parse_config(
            fmt::format("[model]\nvocab = 97\nd_model = 64\nlayers = 2\nheads = 2\nffn = 96\n"
                        "[attention]\n{}\n[data]\nseq_len = 48\n"
                        "[train]\nglobal_batch = 8\nmicro_batch = 4\ngrad_clip = 1.0\nprecision = \"{}\"\n",
                        shape().attention, dtype() == DType::kBF16 ? "bf16" : "fp32"),
            "recipe", {});
    }
};

TEST_P(Bench, TimersChangeNoBitOfTheLosses) {
    const VariantBench without = bench_variant(ctx(), recipe(), {6, 1, 0});
    const VariantBench with = bench_variant(ctx(), recipe(), {2, 1, 4});
    ASSERT_EQ(without.losses.size(), 7u);
    EXPECT_EQ(without.losses, with.losses);
    EXPECT_NE(without.losses.front(), without.losses.back());
    EXPECT_EQ(op_timer(ctx()), nullptr);
    EXPECT_EQ(without.parts.seconds, 0);
}

TEST_P(Bench, PartsMakeUpTheStep) {
    const Config config = recipe();
    const VariantBench bench = bench_variant(ctx(), config, {3, 1, 5});
    double sum = 0, flops = 0;
    for (const OpTotal& family : bench.parts.families) {
        EXPECT_GE(family.seconds, 0);
        sum += family.seconds;
        flops += family.flops;
    }
    EXPECT_NEAR(sum + bench.parts.other(), bench.parts.seconds, 1e-12);
    EXPECT_GT(sum, 0.2 * bench.parts.seconds);
    EXPECT_LE(sum, 1.02 * bench.parts.seconds);

    const auto calls = [&](OpFamily family) {
        return bench.parts.families[static_cast<size_t>(family)].calls;
    };
    const int64_t micro_batches = 2, layers = config.model.layers;
    EXPECT_EQ(calls(OpFamily::kAttentionForward), micro_batches * layers);
    EXPECT_EQ(calls(OpFamily::kAttentionBackward), micro_batches * layers);
    EXPECT_EQ(calls(OpFamily::kCrossEntropy), micro_batches);
    EXPECT_EQ(calls(OpFamily::kEmbedding), 2 * micro_batches);
    EXPECT_EQ(calls(OpFamily::kAdamw), 2);                   // matrices, norms
    EXPECT_EQ(calls(OpFamily::kReduce), micro_batches + 1);  // losses, the gradient's norm
    // GEMMs that the model counts, and the attention scores that backward recomputes (one of its five GEMMs).
    const double again = static_cast<double>(config.model.layers * config.model.heads *
                                             variant_of(config).core_widths(config).qk * config.data.seq_len);
    // The model counts no GEMM with positions, which mtla's merging contains.
    flops -= bench.parts.families[static_cast<size_t>(OpFamily::kTemporalMerge)].flops;
    EXPECT_NEAR(flops / (static_cast<double>(bench.tokens) * (bench.size.flops_per_token + again)), 1.0,
                1e-9);
}

TEST_P(Bench, MeasuresThroughputAndMemory) {
    const VariantBench bench = bench_variant(ctx(), recipe(), {5, 1, 0});
    ASSERT_EQ(bench.step_seconds.size(), 5u);
    EXPECT_EQ(bench.tokens, 8 * 48);
    EXPECT_GT(bench.median(), 0);
    EXPECT_NE(bench.kernels.find(on_cuda() ? "attention: " : "attention: cpu\n"), std::string::npos);
    EXPECT_GE(bench.p95(), bench.median());
    EXPECT_DOUBLE_EQ(bench.tokens_per_s(), 384 / bench.median());
    EXPECT_GT(bench.planned_bytes, 16 * bench.size.parameters);
    EXPECT_GE(bench.peak_bytes, on_cuda() ? 16 * bench.size.parameters : bench.planned_bytes);
    EXPECT_LT(bench.peak_bytes, on_cuda() ? 2 * bench.planned_bytes : INT64_MAX);
}

TEST_P(Bench, SettlesForAsLongAsIsAsked) {
    const auto begin = std::chrono::steady_clock::now();
    const VariantBench bench =
        bench_variant(ctx(), recipe(), {.steps = 1, .warmup = 1, .apart = 0, .settle = 0.5});
    EXPECT_GE(seconds_since(begin), 0.5);
    EXPECT_GT(bench.losses.size(), 2u);
    EXPECT_EQ(bench.step_seconds.size(), 1u);
}

TEST_P(Bench, SaysWhatSpectraCost) {
    Config config = recipe();
    config.diagnostics.every = 10;
    for (const Scope scope : {Scope::kLatents, Scope::kPositions, Scope::kOv, Scope::kOverlap})
        config.diagnostics.scopes.push_back(scope);
    const VariantBench bench =
        bench_variant(ctx(), config, {.steps = 3, .warmup = 1, .apart = 0, .diagnostics = true});
    const DiagnosticsCost& cost = bench.diagnostics;
    EXPECT_GE(cost.measurements, 1);
    EXPECT_GE(cost.steps_beside, 1);
    EXPECT_EQ(cost.every, 10);
    EXPECT_GE(cost.seconds, 0);
    EXPECT_LT(cost.share(bench.median()), 1);
    std::vector<Scope> further;
    for (const auto& [scope, seconds] : bench.scopes) {
        further.push_back(scope);
        EXPECT_GE(seconds, 0) << name_of(scope);
    }
    EXPECT_EQ(further, (std::vector{Scope::kPositions, Scope::kOv, Scope::kOverlap}));
    ASSERT_EQ(bench.probe.size(), 2u);
    for (const ScopeCost& scope : bench.probe) EXPECT_GT(scope.seconds, 0) << name_of(scope.scope);
    // Measuring changes no weight: the losses equal those of the same steps without it.
    const VariantBench without = bench_variant(
        ctx(), config, {.steps = static_cast<int64_t>(bench.losses.size()) - 1, .warmup = 1, .apart = 0});
    EXPECT_EQ(bench.losses, without.losses);

    config.diagnostics.scopes = {Scope::kLogits};
    const VariantBench logits =
        bench_variant(ctx(), config, {.steps = 1, .warmup = 1, .apart = 0, .diagnostics = true});
    EXPECT_EQ(logits.diagnostics.measurements, 0);
    EXPECT_EQ(logits.scopes.size(), 0u);
    EXPECT_EQ(logits.probe.size(), 1u);
    config.diagnostics.every = 0;
    EXPECT_EQ(bench_variant(ctx(), config, {.steps = 1, .warmup = 1, .apart = 0, .diagnostics = true})
                  .diagnostics.measurements,
              0);
}

TEST(DiagnosticsCost, IsAShareOfTheTime) {
    DiagnosticsCost cost;
    cost.seconds = 2;
    cost.every = 4;
    EXPECT_DOUBLE_EQ(cost.share(0.5), 0.5);
}

INSTANTIATE_TEST_SUITE_P(Models, Bench, every_target(every_variant()), case_name<VariantCase>);

struct NoShape {
    std::string name() const { return "any"; }
};
class OpTiming : public OpTest<NoShape> {};

TEST_P(OpTiming, OuterScopeTakesTheWorkOfInnerOnes) {
    TensorPool pool(ctx(), 1);
    const Tensor x = pool.normal(dtype(), {8, 16}), w = pool.normal(dtype(), {4, 16});
    const Tensor y = pool.empty(dtype(), {8, 4}), dw = pool.empty(DType::kF32, {4, 16});
    OpTimer timer(ctx());
    {
        const OpScope scope(ctx(), OpFamily::kLmHead);
        linear_forward(ctx(), y, x, w);
        linear_backward_weight(ctx(), dw, y, x, Update::kAccumulate);
    }
    linear_forward(ctx(), y, x, w);
    const OpTotals totals = timer.collect();
    const auto total = [&](OpFamily family) { return totals[static_cast<size_t>(family)]; };
    EXPECT_EQ(total(OpFamily::kLmHead).calls, 1);
    EXPECT_EQ(total(OpFamily::kLmHead).flops, 2 * 2 * 8 * 16 * 4);
    EXPECT_EQ(total(OpFamily::kLmHead).bytes, bytes_of(x, w, y) + bytes_of(x, y) + 2 * bytes_of(dw));
    EXPECT_EQ(total(OpFamily::kMatmulForward).calls, 1);
    EXPECT_EQ(total(OpFamily::kMatmulBackwardWeight).calls, 0);
    for (const OpTotal& nothing : timer.collect()) EXPECT_EQ(nothing.calls, 0);
}

TEST_P(OpTiming, OnlyOneTimerAtATime) {
    const OpTimer timer(ctx());
    EXPECT_THROW(OpTimer{ctx()}, Error);
    EXPECT_EQ(op_timer(ctx()), &timer);
}

TEST_P(OpTiming, LongerWorkTakesLonger) {
    TensorPool pool(ctx(), 1);
    const Tensor few = pool.normal(DType::kF32, {1 << 16}), many = pool.normal(DType::kF32, {1 << 24});
    // With other load a short call may sometimes take as long as a long one, but not every time.
    for (auto* timing : {&median_seconds, &rested_seconds}) {
        const auto seconds = [&](const Tensor& numbers) {
            return timing(ctx(), [&] { fill_normal(ctx(), numbers, 0, 1, 1, 1); });
        };
        bool longer = false;
        for (int attempt = 0; attempt < 5 && !longer; ++attempt) longer = seconds(many) > 2 * seconds(few);
        EXPECT_TRUE(longer);
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpTiming, every_target<NoShape>({{}}), case_name<NoShape>);

TEST(Measure, QuantilesAreOfTheNearestRank) {
    EXPECT_EQ(quantile({3, 1, 2}, 0.5), 2);
    EXPECT_EQ(quantile({4, 1, 3, 2}, 0.5), 2);
    EXPECT_EQ(quantile({5}, 0.95), 5);
    EXPECT_EQ(quantile({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 0.95), 10);
}

TEST(Measure, RandomIdsCoverTheirRange) {
    const std::vector<int32_t> ids = random_ids(1, 2, 1000, 7);
    std::array<int, 7> seen{};
    for (const int32_t id : ids) {
        ASSERT_TRUE(id >= 0 && id < 7);
        ++seen[static_cast<size_t>(id)];
    }
    for (const int count : seen) EXPECT_GT(count, 80);
    EXPECT_EQ(ids, random_ids(1, 2, 1000, 7));
    EXPECT_NE(ids, random_ids(1, 3, 1000, 7));
}

/// Runs the built binary in a folder; the exit code.
class BenchCommand : public ::testing::Test {
  protected:
    int run(const std::string& arguments) const {
        const auto binary = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "pastur";
        const std::string command = "cd '" + folder_.path().string() + "' && '" + binary.string() +
                                    "' bench " + arguments + " > out 2> err";
        const int status = std::system(command.c_str());
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    std::string read(const std::string& name) const {
        std::ifstream file(folder_.path() / name);
        return std::string(std::istreambuf_iterator<char>(file), {});
    }
    TempFolder folder_;
};

constexpr const char* kSmall =
    "--device cpu --steps 2 --warmup 1 --train.global_batch=2 --data.seq_len=32 --json b.json --csv b.csv ";

TEST_F(BenchCommand, ReportsEveryVariantOfNano) {
    ASSERT_EQ(run(std::string(kSmall) + "--model.layers=1 --model.vocab=256"), 0) << read("err");
    const auto json = nlohmann::json::parse(read("b.json"));
    for (const char* key :
         {"v", "version", "git", "backend", "device", "dtype", "preset", "seq_len", "global_batch",
          "micro_batch", "recompute", "steps", "warmup", "settle_s", "ceilings", "variants", "ops"})
        EXPECT_TRUE(json.contains(key)) << key;
    EXPECT_EQ(json["preset"], "nano");
    EXPECT_GT(json["ceilings"]["matmul_tflops"], 0);
    EXPECT_GT(json["ceilings"]["copy_gb_per_s"], 0);
    ASSERT_EQ(json["variants"].size(), variants().size());
    for (const auto& variant : json["variants"]) {
        for (const char* key :
             {"parameters", "flops_per_token", "tokens_per_step", "tokens_per_s", "tflops", "of_matmul",
              "ms_p50", "ms_p95", "planned_bytes", "peak_bytes", "timed_step_ms"})
            EXPECT_GT(variant.at(key), 0) << key;
        const std::vector<double> steps = variant.at("step_ms");
        ASSERT_EQ(steps.size(), 2u);
        EXPECT_LE(std::min(steps[0], steps[1]), variant["ms_p50"]);
        EXPECT_GE(std::max(steps[0], steps[1]), variant["ms_p95"]);
        double sum = 0;
        for (const auto& part : variant["parts"]) {
            for (const char* key :
                 {"name", "ms", "calls", "share", "tflops", "gb_per_s", "of_matmul", "of_copy"})
                EXPECT_TRUE(part.contains(key)) << key;
            sum += part["ms"].get<double>();
        }
        EXPECT_NEAR(sum, variant["timed_step_ms"], 1e-6);
    }
    for (size_t i = 0; i < variants().size(); ++i)
        EXPECT_EQ(json["variants"][i]["variant"], variants()[i]->name);
    const std::string csv = read("b.csv");
    EXPECT_NE(csv.find("\nstep,mha,step,"), std::string::npos);
    EXPECT_NE(csv.find("\npart,mla-prerope,attention backward,"), std::string::npos);
    for (size_t begin = 0; begin < csv.size(); begin = csv.find('\n', begin) + 1)
        EXPECT_EQ(std::count(csv.begin() + static_cast<long>(begin),
                             csv.begin() + static_cast<long>(csv.find('\n', begin)), ','),
                  14);
}

TEST_F(BenchCommand, PrintsWhatEachFurtherScopeCosts) {
    ASSERT_EQ(run(std::string(kSmall) + "--variants mla-decoupled --model.layers=1 --model.vocab=256 "
                                        "--diagnostics.scopes=layer,positions,ov,overlap,logits,latents"),
              0)
        << read("err");
    const auto variant = nlohmann::json::parse(read("b.json"))["variants"][0];
    const std::string text = read("out");
    for (const char* scope : {"positions", "ov", "overlap", "logits", "latents"})
        EXPECT_NE(text.find(fmt::format("  scope {}: a measurement ", scope)), std::string::npos) << text;
    EXPECT_EQ(variant["diagnostics"]["scope_ms"].size(), 3u) << variant;
    EXPECT_EQ(variant["probe_ms"].size(), 2u) << variant;
}

TEST_F(BenchCommand, TakesARecipeApartFromItsVariant) {
    std::ofstream(folder_.path() / "r.toml") << "[attention]\nvariant = \"mla-decoupled\"\nkv_rank = 32\n";
    ASSERT_EQ(run(std::string("r.toml --variants mla-prerope,mla-decoupled ") + kSmall), 0) << read("err");
    ASSERT_EQ(run(std::string("r.toml --variants mla-decoupled,mha ") + kSmall), 0) << read("err");
    const auto variants = nlohmann::json::parse(read("b.json"))["variants"];
    ASSERT_EQ(variants.size(), 2u);
    EXPECT_EQ(variants[0]["variant"], "mla-decoupled");
    EXPECT_EQ(variants[1]["variant"], "mha");
    ASSERT_EQ(run(std::string("r.toml ") + kSmall), 0) << read("err");
    EXPECT_EQ(nlohmann::json::parse(read("b.json"))["variants"].size(), 1u);
}

TEST_F(BenchCommand, NamesTheNearestVariant) {
    EXPECT_EQ(run("--device cpu --variants mha,mla-decopled"), 2);
    EXPECT_NE(read("err").find("unknown variant \"mla-decopled\"; did you mean \"mla-decoupled\"?"),
              std::string::npos)
        << read("err");
    EXPECT_EQ(run("--device cpu --variants mha,"), 2);
    EXPECT_EQ(run("--device cpu --ops=atention"), 2);
    EXPECT_NE(read("err").find(
                  "expected the beginning of an op's name, found \"atention\"; did you mean \"attention\"?"),
              std::string::npos)
        << read("err");
    EXPECT_EQ(run("--steps 0"), 2);
    EXPECT_EQ(run("--model.preset=nona"), 2);
    EXPECT_EQ(run("missing.toml"), 66);
}

TEST(BenchOps, NamesAndShapesStandInColumns) {
    const std::string text = ops_header({}) + op_text({"adamw", "N 10", 1, 0, 1}, {}) +
                             op_text({"attention backward, rotated", "B 2 H 3 T 4", 1, 1, 1}, {});
    EXPECT_EQ(text.find("rested"), std::string::npos) << text;
    std::istringstream lines(text);
    std::string line;
    std::vector<size_t> shapes, times;
    while (std::getline(lines, line)) {
        shapes.push_back(std::min(line.find("  N 10"), line.find("  B 2")));
        times.push_back(line.find("1000.0000"));
    }
    ASSERT_EQ(shapes.size(), 4U) << text;
    EXPECT_NE(shapes[2], std::string::npos) << text;
    EXPECT_EQ(shapes[2], shapes[3]) << text;
    EXPECT_NE(times[2], std::string::npos) << text;
    EXPECT_EQ(times[2], times[3]) << text;
}

TEST(BenchOps, RestedTimesStandUnderTheirHeadings) {
    Ceilings ceilings{};
    ceilings.flops_per_s = ceilings.rested_flops_per_s = 1e15, ceilings.bytes_per_s = 1e12;
    std::istringstream lines(ops_header(ceilings).substr(1) +
                             op_text({"adamw", "N 10", 1e-3, 0, 1e9, 5e-4}, ceilings) +
                             op_text({"attention backward", "B 2", 1e-3, 1e12, 1e9, 5e-4}, ceilings));
    std::string header, copied, multiplied;
    std::getline(lines, header);
    std::getline(lines, copied);
    std::getline(lines, multiplied);
    const auto ends = [](const std::string& line, const std::string& word) {
        const size_t at = line.find(word);
        return at == std::string::npos ? at : at + word.size();
    };
    for (const std::string& line : {copied, multiplied}) {
        EXPECT_EQ(ends(header, "rested, ms"), ends(line, "0.5000")) << header << "\n" << line;
        EXPECT_EQ(header.size(), line.size()) << header << "\n" << line;
    }
    EXPECT_EQ(ends(copied, "    2000.0"), copied.size()) << copied;              // GB/s
    EXPECT_EQ(ends(multiplied, "    2000.0"), multiplied.size()) << multiplied;  // TFLOP/s
}

}  // namespace
}  // namespace pastur::test
