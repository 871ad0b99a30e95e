// The training loop end to end on a small model: it learns, and reruns and resumes give the same bits.
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/io/safetensors.h"
#include "engine/io/step_name.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/ranks/comm.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/trainer.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVocab = 31;

/// Writes a shard of llm.c's format (magic, version, count) with a pattern that a model can learn.
void write_shard(const fs::path& path, int64_t tokens, uint64_t seed) {
    std::vector<int32_t> header(256);
    header[0] = 20240520;
    header[1] = 1;
    header[2] = static_cast<int32_t>(tokens);
    std::vector<uint16_t> ids;
    Random random(seed);
    int64_t id = 0;
    for (int64_t i = 0; i < tokens; ++i) {
        id = random.below(4) == 0 ? random.below(kVocab) : (3 * id + 1) % kVocab;
        ids.push_back(static_cast<uint16_t>(id));
    }
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(header.data()), static_cast<std::streamsize>(header.size() * 4));
    file.write(reinterpret_cast<const char*>(ids.data()), static_cast<std::streamsize>(ids.size() * 2));
}

class Training : public OpTest<VariantCase> {
  protected:
    void SetUp() override {
        write_shard(folder_.path() / "train_000000.bin", 4000, 1);
        write_shard(folder_.path() / "val_000000.bin", 500, 2);
    }
    Config recipe(const std::string& train = "") const {
        return parse_config(
            fmt::format("[model]\nvocab = {}\nd_model = 32\nlayers = 2\nheads = 2\nffn = 48\n"
                        "[attention]\n{}\n[data]\ndir = \"{}\"\nseq_len = 16\n"
                        "[train]\nsteps = 12\nglobal_batch = 8\nmicro_batch = 4\nlr = 1e-2\n"
                        "warmup_steps = 3\ngrad_clip = 1.0\nweight_decay = 0.1\nval_every = 4\n"
                        "precision = \"{}\"\n{}\n",
                        kVocab, shape().attention, folder_.path().string(),
                        dtype() == DType::kBF16 ? "bf16" : "fp32", train),
            "recipe", {});
    }
    ExitCode train(const Config& config, const std::string& run, bool resume = false) {
        const std::unique_ptr<Comm> comm = make_single_comm();
        Trainer trainer(config, ctx(), *comm);
        return trainer.run(folder_.path() / run, resume);
    }
    /// All bytes of a run's last checkpoint.
    std::string final_bytes(const std::string& run, int64_t step) const {
        std::string bytes;
        const fs::path checkpoint = folder_.path() / run / "checkpoints" / step_name(step);
        for (const char* name : {"model.safetensors", "optimizer.rank0.safetensors", "state.json"}) {
            std::ifstream file(checkpoint / name, std::ios::binary);
            EXPECT_TRUE(file) << (checkpoint / name);
            bytes.append(std::istreambuf_iterator<char>(file), {});
        }
        return bytes;
    }
    /// The losses in metrics.jsonl as text, so every digit is compared.
    std::vector<std::string> losses(const std::string& run) const {
        std::ifstream file(folder_.path() / run / "metrics.jsonl");
        std::vector<std::string> losses;
        for (std::string line; std::getline(file, line);) {
            const size_t at = line.find("\"loss\":");
            if (at != std::string::npos) losses.push_back(line.substr(at, line.find(',', at) - at));
        }
        return losses;
    }
    /// The weights and Adam's moments, without the recipe that a checkpoint also holds.
    std::string tensor_bytes(const std::string& run, int64_t step) const {
        std::string bytes;
        for (const char* name : {"model.safetensors", "optimizer.rank0.safetensors"}) {
            const SafetensorsFile file(folder_.path() / run / "checkpoints" / step_name(step) / name);
            for (const auto& [tensor, entry] : file.entries())
                bytes.append(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
        }
        return bytes;
    }
    /// The bytes of every file in spectra/, by name.
    std::map<std::string, std::string> spectra(const std::string& run) const {
        std::map<std::string, std::string> files;
        for (const auto& entry : fs::directory_iterator(folder_.path() / run / "spectra")) {
            if (entry.path().filename().string().find("abandoned") != std::string::npos) continue;
            std::ifstream file(entry.path(), std::ios::binary);
            files[entry.path().filename()].assign(std::istreambuf_iterator<char>(file), {});
        }
        return files;
    }
    std::vector<std::string> spectral_events(const std::string& run) const {
        std::ifstream file(folder_.path() / run / "metrics.jsonl");
        std::vector<std::string> events;
        for (std::string line; std::getline(file, line);)
            if (line.find("\"spike\"") != std::string::npos || line.find("\"collapse\"") != std::string::npos)
                events.push_back(line);
        return events;
    }
    /// Measures every scope and null, with thresholds low enough for events.
    Config watched(int64_t every) const {
        Config config = recipe();
        config.run.log_every = 1;
        config.diagnostics.every = every;
        config.diagnostics.scopes = variant_of(config).scopes;
        for (const Scope scope :
             {Scope::kLogits, Scope::kLatents, Scope::kPositions, Scope::kOv, Scope::kOverlap})
            config.diagnostics.scopes.push_back(scope);
        config.diagnostics.probe_sequences = 6;  // a pass of four, and one of two
        config.diagnostics.nulls = {NullKind::kProduct, NullKind::kMp, NullKind::kPermuted,
                                    NullKind::kProfile};
        config.diagnostics.permutations = 2;
        config.diagnostics.spike_ratio = 0.01;
        config.diagnostics.collapse_fraction = 0.99;
        return config;
    }
    TempFolder folder_;
};

TEST_P(Training, DiagnosticsChangeNoBit) {
    Config off = watched(1);
    off.diagnostics.every = 0;
    EXPECT_EQ(train(watched(1), "on"), ExitCode::kOk);
    EXPECT_EQ(train(off, "off"), ExitCode::kOk);
    EXPECT_EQ(losses("on"), losses("off"));
    EXPECT_EQ(tensor_bytes("on", 12), tensor_bytes("off", 12));
    EXPECT_FALSE(fs::exists(folder_.path() / "off" / "spectra"));
    EXPECT_EQ(spectra("on").size(), 3u + 13u);  // summary, logits and latents, and steps 0 to 12
}

TEST_P(Training, MeasuresWhenItShouldAndSaysWhatItFound) {
    Config config = watched(4);
    config.diagnostics.early = {0, 3};
    config.diagnostics.scopes = {Scope::kHead, Scope::kLayer};
    config.diagnostics.nulls = {NullKind::kMp};
    EXPECT_EQ(train(config, "run"), ExitCode::kOk);
    std::map<int64_t, int> records;
    std::ifstream summary(folder_.path() / "run" / "spectra" / "summary.jsonl");
    for (std::string line; std::getline(summary, line);) {
        const auto record = nlohmann::json::parse(line);
        ++records[record.at("step").get<int64_t>()];
        EXPECT_EQ(record.at("v"), 2);
        EXPECT_EQ(record.at("nulls").size(), 1u);
        for (const char* key : {"lambda_max", "stable_rank", "n"})
            EXPECT_TRUE(record.at(key).is_number()) << key << " in " << line;
        for (const char* key : {"lambda_plus", "outlier_count", "outliers_below", "ks", "sigma2"})
            EXPECT_TRUE(record.at("nulls").at("mp").at(key).is_number()) << key << " in " << line;
    }
    const int each = 2 * (1 + 2);  // layers; the layer and its heads
    EXPECT_EQ(records, (std::map<int64_t, int>{{0, each}, {3, each}, {4, each}, {8, each}, {12, each}}));
    EXPECT_FALSE(spectral_events("run").empty());
    std::ifstream metrics(folder_.path() / "run" / "metrics.jsonl");
    for (std::string line; std::getline(metrics, line);) {
        if (line.find("\"event\":\"train\"") == std::string::npos) continue;
        EXPECT_GE(nlohmann::json::parse(line).at("diag_ms").get<double>(), 0.0);
    }
}

TEST_P(Training, ResumeKeepsSpectraAndEvents) {
    Config config = watched(2);
    config.checkpoint.every = 1;
    config.checkpoint.keep = 0;
    train(config, "whole");
    EXPECT_FALSE(spectral_events("whole").empty());
    for (const int64_t point : {1, 4, 7}) {
        const std::string run = fmt::format("cut{}", point);
        fs::copy(folder_.path() / "whole", folder_.path() / run, fs::copy_options::recursive);
        for (int64_t step = point + 1; step <= 12; ++step)
            fs::remove_all(folder_.path() / run / "checkpoints" / step_name(step));
        EXPECT_EQ(train(config, run, /*resume=*/true), ExitCode::kOk);
        EXPECT_EQ(spectra(run), spectra("whole")) << "resumed after step " << point;
        EXPECT_EQ(spectral_events(run), spectral_events("whole")) << "resumed after step " << point;
    }
}

TEST_P(Training, SpectraThatCannotBeWrittenEndTheRun) {
    Config config = watched(1);
    // A run without a checkpoint starts again and finds a file in place of its folder of spectra.
    fs::create_directories(folder_.path() / "run");
    std::ofstream(folder_.path() / "run" / "env.json") << "{\"git_revision\": \"\"}";
    std::ofstream(folder_.path() / "run" / "spectra").put('x');
    expect_error(ExitCode::kIo, {"spectra"}, [&] { train(config, "run", true); });
}

TEST_P(Training, TwoRunsGiveTheSameBits) {
    Config config = recipe();
    config.run.log_every = 1;
    EXPECT_EQ(train(config, "a"), ExitCode::kOk);
    EXPECT_EQ(train(config, "b"), ExitCode::kOk);
    EXPECT_EQ(final_bytes("a", 12), final_bytes("b", 12));
    EXPECT_EQ(losses("a"), losses("b"));
    EXPECT_EQ(losses("a").size(), 12u + 4u);  // steps, and validations at 0, 4, 8, 12
}

TEST_P(Training, ResumesAtEveryPointWithTheSameBits) {
    Config config = recipe();
    config.run.log_every = 1;
    config.checkpoint.every = 1;
    config.checkpoint.keep = 0;
    train(config, "whole");
    for (const int64_t point : {1, 3, 4, 7, 11}) {
        // A run interrupted after `point` steps: only checkpoints up to there exist.
        const std::string run = fmt::format("cut{}", point);
        fs::copy(folder_.path() / "whole", folder_.path() / run, fs::copy_options::recursive);
        for (int64_t step = point + 1; step <= 12; ++step)
            fs::remove_all(folder_.path() / run / "checkpoints" / step_name(step));
        EXPECT_EQ(train(config, run, /*resume=*/true), ExitCode::kOk);
        EXPECT_EQ(final_bytes(run, 12), final_bytes("whole", 12)) << "resumed after step " << point;
        EXPECT_EQ(losses(run), losses("whole")) << "resumed after step " << point;
    }
}

TEST_P(Training, ResumesInFp8WithTheSameBits) {
    if (!has_fp8(ctx())) GTEST_SKIP() << device_name(ctx()) << " has no e4m3 GEMMs";
    Config config = recipe("fp8_min_outputs = 16\nfp8_min_gradient_side = 16");
    config.run.log_every = 1;
    config.checkpoint.every = 4;
    config.checkpoint.keep = 0;
    train(config, "without");
    config.train.precision = Precision::kFp8;
    train(config, "whole");
    EXPECT_NE(losses("whole"), losses("without"));
    fs::copy(folder_.path() / "whole", folder_.path() / "cut", fs::copy_options::recursive);
    for (const int64_t step : {8, 12})
        fs::remove_all(folder_.path() / "cut" / "checkpoints" / step_name(step));
    EXPECT_EQ(train(config, "cut", /*resume=*/true), ExitCode::kOk);
    EXPECT_EQ(final_bytes("cut", 12), final_bytes("whole", 12));
    EXPECT_EQ(losses("cut"), losses("whole"));
}

// Graphs are used on a GPU only.
TEST_P(Training, GoesOnWithGraphsAndWithoutOnTheSameBits) {
    Config config = recipe("cuda_graph = false");
    config.run.log_every = 1;
    config.checkpoint.every = 1;
    config.checkpoint.keep = 0;
    EXPECT_EQ(train(config, "launched"), ExitCode::kOk);
    config.train.cuda_graph = true;
    EXPECT_EQ(train(config, "replayed"), ExitCode::kOk);
    EXPECT_EQ(losses("replayed"), losses("launched"));
    EXPECT_EQ(tensor_bytes("replayed", 12), tensor_bytes("launched", 12));
    // The first half was launched; the second is replayed.
    fs::copy(folder_.path() / "launched", folder_.path() / "half", fs::copy_options::recursive);
    for (int64_t step = 6; step <= 12; ++step)
        fs::remove_all(folder_.path() / "half" / "checkpoints" / step_name(step));
    EXPECT_EQ(train(config, "half", /*resume=*/true), ExitCode::kOk);
    EXPECT_EQ(losses("half"), losses("launched"));
    EXPECT_EQ(tensor_bytes("half", 12), tensor_bytes("launched", 12));
}

TEST_P(Training, StopsOnRequestAndGoesOn) {
    Config config = recipe();
    EXPECT_EQ(train(config, "whole"), ExitCode::kOk);
    const fs::path stop = folder_.path() / "stopped" / "STOP";
    fs::create_directories(stop.parent_path());
    std::ofstream(stop).put('\n');
    EXPECT_EQ(train(config, "stopped"), ExitCode::kRequeue);
    fs::remove(stop);
    EXPECT_EQ(train(config, "stopped", /*resume=*/true), ExitCode::kOk);
    EXPECT_EQ(final_bytes("stopped", 12), final_bytes("whole", 12));
}

TEST_P(Training, MfuIsAShareOfThePeak) {
    Config config = recipe();
    const auto shares = [&](const std::string& run) {
        std::vector<std::pair<nlohmann::json, double>> found;
        std::ifstream file(folder_.path() / run / "metrics.jsonl");
        for (std::string line; std::getline(file, line);) {
            const nlohmann::json event = nlohmann::json::parse(line);
            if (event.at("event") == "train") found.emplace_back(event.at("mfu"), event.at("tflops"));
        }
        return found;
    };
    train(config, "measured");
    for (const auto& [mfu, tflops] : shares("measured")) {
        if (!on_cuda()) {
            EXPECT_TRUE(mfu.is_null());
            continue;
        }
        EXPECT_GT(mfu.get<double>(), 0);
        EXPECT_LT(mfu.get<double>(), 1);
    }
    config.hw.peak_tflops = 0.25;
    train(config, "given");
    EXPECT_EQ(shares("given").size(), shares("measured").size());
    for (const auto& [mfu, tflops] : shares("given")) EXPECT_DOUBLE_EQ(mfu.get<double>(), tflops / 0.25);
}

TEST_P(Training, RefusesAnotherRecipeOnResume) {
    Config config = recipe();
    train(config, "run");
    config.train.lr = 0.5;
    try {
        train(config, "run", /*resume=*/true);
        FAIL() << "resumed with another learning rate";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kUsage);
        EXPECT_NE(std::string(error.what()).find("lr"), std::string::npos) << error.what();
    }
}

TEST_P(Training, RefusesARunFolderInUse) {
    train(recipe(), "run");
    EXPECT_THROW(train(recipe(), "run"), Error);
}

TEST_P(Training, NonFiniteLossIsCaughtBeforeTheUpdate) {
    Config config = recipe();
    config.train.lr = 1e30;  // the second step's activations overflow
    config.train.grad_clip = 0;
    try {
        train(config, "diverging");
        FAIL() << "a diverging run continued";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kNonFinite);
        EXPECT_NE(std::string(error.what()).find("non-finite gradient is"), std::string::npos)
            << error.what();
    }
    config.train.nonfinite = OnNonfinite::kSkip;
    EXPECT_EQ(train(config, "skipping"), ExitCode::kOk);
}

TEST_P(Training, RefusesAPlanThatDoesNotFit) {
    Config config = recipe();
    config.train.global_batch = config.train.micro_batch = int64_t{1} << 32;
    try {
        train(config, "huge");
        FAIL() << "a terabyte was allocated";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kNoDevice);
        EXPECT_NE(std::string(error.what()).find("train.micro_batch"), std::string::npos) << error.what();
    }
    EXPECT_FALSE(fs::exists(folder_.path() / "huge"));
}

TEST_P(Training, OverfitsOneBatch) {
    const Config config = recipe();
    const BatchShape shape{2, 16};
    ModelUnderTest model(config, ctx(), dtype(), shape);
    model.model().params().initialise(ctx(), 1);
    TrainConfig settings = config.train;
    settings.weight_decay = 0;
    Optimizer optimizer(settings, model.model().params());
    optimizer.allocate(ctx());
    const TokenBatch batch = random_batch(random_, shape, kVocab);
    const Buffer norm = allocate(ctx(), 8);
    const Tensor squares(norm.data(), DType::kF64, {1});
    const double first = model.forward_backward(batch);
    double last = first;
    for (int64_t step = 0; step < 150; ++step) {
        last = model.forward_backward(batch);
        const std::vector<double> one = {1.0};
        upload(ctx(), squares, as_tensor(std::span(one)));
        optimizer.step(ctx(), step, 1e-2, squares);
    }
    EXPECT_NEAR(first, std::log(static_cast<double>(kVocab)), 0.3);
    EXPECT_LT(last, 0.05);
}

INSTANTIATE_TEST_SUITE_P(Runs, Training, every_target(every_variant()), case_name<VariantCase>);

}  // namespace
}  // namespace pastur::test
