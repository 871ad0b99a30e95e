// The command line as scripts use it: the built program, its error line on stderr and its exit code.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/io/safetensors.h"
#include "tests/support/ranks.h"
#include "tests/support/source_folder.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::CommandLine;
using test::Result;

TEST_F(CommandLine, SaysItsVersion) {
    const Result result = run("--version");
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.out.compare(0, 7, "pastur "), 0);
    for (const char* part : {"(revision ", "\nCUDA runtime: ", "\nNCCL: ", "\nMPI: ", "\nBLAS: OpenBLAS "})
        EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
    EXPECT_EQ(result.err, "");
}

TEST_F(CommandLine, HelpListsEverySubcommandInALine) {
    const Result result = run("--help");
    EXPECT_EQ(result.code, 0);
    for (const char* command : {"\n  train ", "\n  plan ", "\n  eval ", "\n  spectra ", "\n  bench ",
                                "\n  compare ", "\n  report ", "\n  verify ", "\n  data "})
        EXPECT_NE(result.out.find(command), std::string::npos) << result.out;
    const Result train = run("train --help");
    EXPECT_EQ(train.code, 0);
    EXPECT_NE(train.out.find("train.lr "), std::string::npos);
    EXPECT_EQ(run("data prepare --help").code, 0);
}

TEST_F(CommandLine, HelpsOnACommandByItsName) {
    EXPECT_EQ(run("help").out, run("--help").out);
    EXPECT_EQ(run("help train").out, run("train --help").out);
    EXPECT_EQ(run("help data prepare").out, run("data prepare --help").out);
    expect_failure("help trian", 2, {"unknown command \"trian\"; did you mean \"train\"?"});
    expect_failure("help data prepar", 2, {"`pastur data`: unknown command \"prepar\""});
}

TEST_F(CommandLine, HelpMarksTheOptionsThatTakeSeveralValues) {
    const std::string help = run("study --help").out;
    EXPECT_NE(help.find("--input FILES ..."), std::string::npos);
    EXPECT_NE(help.find("--variants A,B,... "), std::string::npos);
    for (const char* one : {"--only PATTERN ...", "--set KEY=V,V ...", "... ..."})
        EXPECT_EQ(help.find(one), std::string::npos) << one;
}

TEST_F(CommandLine, PrintsTheResolvedConfigWithoutData) {
    write("r.toml", "[train]\nlr = 0.5\n");
    const Result result = run("train r.toml --print-config --train.steps=7 --data.dir=nowhere");
    EXPECT_EQ(result.code, 0) << result.err;
    write("printed.toml", result.out);
    for (const char* part :
         {"[model]\n", "lr = 0.5\n", "steps = 7\n", "d_model = 128\n", "dir = \"nowhere\"\n"})
        EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
    EXPECT_EQ(run("train printed.toml --print-config").out, result.out) << "it is a recipe itself";
    EXPECT_FALSE(fs::exists(file("runs")));
}

TEST_F(CommandLine, ChecksEveryOption) {
    expect_failure("eval --checkpoint x --data y --max-tokens -5", 2, {"--max-tokens"});
    write("r.toml", "[data]\ndir = \"nowhere\"\n");
    expect_failure("train r.toml --max-time 1h30", 2, {"--max-time 1h30: expected a time", "00:30:00"});
    expect_failure("train r.toml --max-time -5", 2, {"--max-time"});
}

TEST_F(CommandLine, NamesTheNearestCommandAndOption) {
    expect_failure("", 2, {"expected a command: train, plan, eval"});
    expect_failure("data", 2, {"`pastur data`: expected a command: prepare"});
    expect_failure("trian r.toml", 2, {"unknown command \"trian\"; did you mean \"train\"?"});
    expect_failure("data prepar", 2,
                   {"`pastur data`: unknown command \"prepar\"; did you mean \"prepare\"?"});
    expect_failure("--hlep", 2, {"unknown option \"--hlep\"; did you mean \"--help\"?"});
    expect_failure("train --resum r.toml", 2,
                   {"`pastur train`: unknown option \"--resum\"", "\"--resume\"?"});
    expect_failure("eval --checkpiont x --data y", 2, {"\"--checkpiont\"; did you mean \"--checkpoint\"?"});
    expect_failure("train r.toml --nonsense", 2,
                   {"unknown option \"--nonsense\" (see `pastur train --help`)"});
    expect_failure("train r.toml ---", 2, {"unknown option \"---\""});
    expect_failure("train r.toml --batch-size 3", 2, {"did you mean \"--train.global_batch=value\"?"});
    expect_failure("train r.toml --learning-rate 3", 2, {"did you mean \"--train.lr=value\"?"});
    expect_failure("train r.toml --lr=3", 2, {"unknown option \"--lr\"; did you mean \"--train.lr=value\"?"});
    expect_failure("train r.toml extra", 2, {"unexpected argument \"extra\""});
    expect_failure("train", 2, {"recipe is required", "--help"});
    expect_failure("train r.toml --device", 2, {"--device"});
}

TEST_F(CommandLine, FailsWithTheCodeOfWhatIsWrong) {
    write("r.toml", "[train]\nlr = \"fast\"\n");
    expect_failure("train none.toml", 66, {"none.toml", "No such file"});
    expect_failure("train r.toml", 2, {"r.toml:2: [train] lr = ", "expected a number"});
    expect_failure("eval --checkpoint none --data x", 66, {"none"});
    fs::create_directory(file("broken"));
    write("broken/MANIFEST.json", "{}");
    expect_failure("eval --checkpoint broken --data x", 65, {"broken/MANIFEST.json"});
    write("empty.toml", "[data]\ndir = \"nowhere\"\n");
    expect_failure("train empty.toml --device cpu", 66, {"nowhere/train_*.bin"});
    expect_failure("train empty.toml --device tpu", 2, {"--device", "tpu", "cpu"});
    EXPECT_FALSE(fs::exists(file("runs"))) << "a run that cannot start must not leave a folder";
}

TEST_F(CommandLine, ReadsOverridesInEveryForm) {
    write("r.toml", "[data]\ndir = \"nowhere\"\n");
    for (const char* arguments :
         {"train r.toml --data.dir=there", "train r.toml --data.dir there", "train --data.dir there r.toml",
          "--data.dir there train r.toml", "train --data.dir=x r.toml --data.dir=there"})
        expect_failure(std::string(arguments) + " --device cpu", 66, {"there/train_*.bin"});
    expect_failure("train r.toml --train.lr=fast", 2, {"--train.lr=fast: expected a number"});
    expect_failure("train r.toml --train.lrr=1", 2,
                   {"--train.lrr=1: unknown key \"lrr\" in [train]", "\"lr\"?"});
    expect_failure("train r.toml --trian.lr=1", 2, {"--trian.lr=1: unknown section [trian]", "[train]?"});
    expect_failure("train r.toml --train.lr", 2, {"--train.lr: expected --train.lr=value"});
    expect_failure("train r.toml --train.lr --resume", 2, {"--train.lr: expected --train.lr=value"});
    expect_failure("eval --checkpoint x --data y --train.lr=1", 2,
                   {"`pastur eval` does not take --section.key=value"});
}

TEST_F(CommandLine, AFullDiskBehindStdoutIsAnError) {
    for (const char* arguments : {"--version", "--help", "train --help"}) {
        const Result result = run(std::string(arguments) + " > /dev/full");
        EXPECT_EQ(result.code, 74) << arguments;
        EXPECT_NE(result.err.find("No space left"), std::string::npos) << result.err;
    }
}

/// The life of a run: prepare data, train, refuse to overwrite, resume, evaluate.
class Life : public test::TrainingLine {
  protected:
    std::vector<std::string> events() const {
        std::vector<std::string> names;
        std::ifstream in(file("run/metrics.jsonl"));
        for (std::string line; std::getline(in, line);) {
            EXPECT_EQ(line.compare(0, 7, "{\"v\":1,"), 0) << line;
            names.push_back(nlohmann::json::parse(line).at("event"));
        }
        return names;
    }
};

TEST_F(Life, LeavesACompleteRunFolder) {
    const Result first = run("train r.toml --run run --device cpu");
    ASSERT_EQ(first.code, 0) << first.err;
    EXPECT_EQ(first.err, "");
    // The run prints the level that it chose; its config.toml keeps "auto", so a resume chooses again.
    EXPECT_NE(first.out.find("train.recompute = \"none\" (auto)"), std::string::npos) << first.out;
    EXPECT_NE(first.out.find("attention: cpu\n"), std::string::npos) << first.out;
    EXPECT_EQ(metrics("run").front().at("recompute"), "none");
    EXPECT_NE(read_file(file("run/config.toml"), 1 << 20).find("recompute = \"auto\""), std::string::npos);
    for (const char* name :
         {"config.toml", "env.json", "metrics.jsonl", "report.html", "checkpoints/latest",
          "checkpoints/step_00000002/MANIFEST.json", "checkpoints/step_00000004/MANIFEST.json"})
        EXPECT_TRUE(fs::exists(file(std::string("run/") + name))) << name;
    const std::vector<std::string> names = events();
    EXPECT_EQ(names.front(), "start");
    EXPECT_EQ(names.back(), "end");
    EXPECT_EQ(std::count(names.begin(), names.end(), "train"), 4);
    EXPECT_EQ(std::count(names.begin(), names.end(), "checkpoint"), 2);
    expect_failure("train r.toml --run run --device cpu", 2, {"run", "--resume"});

    const Result eval = run("eval --checkpoint run --data corpus --device cpu --json");
    EXPECT_EQ(eval.code, 0) << eval.err;
    EXPECT_GT(nlohmann::json::parse(eval.out).at("loss").get<double>(), 0);
    expect_failure("eval --checkpoint run --data corpus --precision fp16", 2,
                   {"--precision fp16: expected one of", "\"fp32\""});
    fs::resize_file(file("run/checkpoints/step_00000004/model.safetensors"), 100);
    expect_failure("eval --checkpoint run --data corpus", 65, {"step_00000004/model.safetensors: 100 bytes"});
}

TEST_F(Life, AnUnusableRunFolderIsAnIoError) {
    write("file", "");
    expect_failure("train r.toml --run file/run --device cpu", 74, {"file"});
    expect_failure("train r.toml --run /proc/run --device cpu", 74, {"/proc/run"});
}

/// Writes a Llama folder of one layer: q_proj is all ones (rank one), k_proj has a NaN or not.
void write_llama(const fs::path& folder, bool with_nan) {
    fs::create_directories(folder);
    std::ofstream(folder / "config.json")
        << R"({"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2})";
    std::vector<float> ones(64, 1.0f), keys(64);
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<float>(i % 7) - 3.0f;
    if (with_nan) keys[5] = std::nanf("");
    std::vector<TensorSource> tensors;
    for (const char* name : {"q_proj", "k_proj"}) {
        const std::vector<float>& values = name[0] == 'q' ? ones : keys;
        tensors.push_back(
            {std::string("model.layers.0.self_attn.") + name + ".weight", DType::kF32, {8, 8}, [&values] {
                 return std::as_bytes(std::span(values));
             }});
    }
    write_safetensors(folder / "model.safetensors", tensors, {});
}

TEST_F(CommandLine, SpectraOfAModelAreATableALogAndAnArchive) {
    write_llama(folder_.path() / "llama", false);
    const Result result = run("spectra llama --text --json records.jsonl --npz spectra.npz --device cpu");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(result.out.compare(0, 40, "llama: mha, 1 layers of 2 heads, width 8"), 0) << result.out;
    EXPECT_NE(result.out.find("\u2588"), std::string::npos) << "no bars";
    EXPECT_NE(result.out.find("\u2534"), std::string::npos) << "no edge";
    int lines = 0;
    std::ifstream log(file("records.jsonl"));
    for (std::string line; std::getline(log, line); ++lines) {
        const auto record = nlohmann::json::parse(line);
        EXPECT_EQ(record.at("path"), "llama");
        EXPECT_NEAR(record.at("stable_rank").get<double>(), 1, 1e-9) << "q_proj has rank one";
    }
    EXPECT_EQ(lines, 1 + 2) << "layer and heads";
    EXPECT_EQ(read_file(file("spectra.npz"), 1 << 20).compare(0, 4, "PK\x03\x04"), 0);
    const Result each = run("spectra llama llama --heads --nulls mp --scopes head --device cpu");
    EXPECT_EQ(std::count(each.out.begin(), each.out.end(), '\n'), 2 * (2 + 2));
}

using SpectraOfRuns = test::SmallRuns;

TEST_F(SpectraOfRuns, AMatrixWithoutALawHasNoRecordAndNoHistogram) {
    ASSERT_EQ(run("train r.toml --run run --device cpu --attention.variant=mla-decoupled --train.steps=1 "
                  "--train.warmup_steps=0 --diagnostics.every=0")
                  .code,
              0);
    const Result result = run("spectra run --text --nulls product --scopes layer,content --device cpu");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(
        result.err.find("null product: no law for qk: it needs the variances of qk_content and qk_rope"),
        std::string::npos)
        << result.err;
    EXPECT_NE(result.out.find("layer 0 qk_content: "), std::string::npos) << result.out;
    EXPECT_EQ(result.out.find("layer 0 qk: "), std::string::npos) << result.out;
}

TEST_F(CommandLine, SpectraOfDamagedModelsAreFlagged) {
    write_llama(folder_.path() / "nan", true);
    const Result result = run("spectra nan --text --device cpu");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("nonfinite"), std::string::npos) << result.out;
}

TEST_F(CommandLine, SpectraCalibrateTheirNullsOnInitialisations) {
    const std::string recipe = test::source_file("tools/recipes/nano-mla-decoupled.toml");
    const Result result = run("spectra " + recipe + " --draws 3 --json calibration.jsonl --device cpu");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("outliers each"), std::string::npos) << result.out;
    int products = 0;
    std::ifstream log(file("calibration.jsonl"));
    for (std::string line; std::getline(log, line);) {
        const auto json = nlohmann::json::parse(line);
        EXPECT_EQ(json.at("matrices"), json.at("scope") == "head" ? 12 : 3) << line;
        products += json.at("null") == "product";
    }
    EXPECT_EQ(products, 6) << "qk, qk_content and qk_rope, of heads and layer";
    const Result alone =
        run("spectra " + recipe + " --draws 1 --scopes positions --nulls product --device cpu");
    EXPECT_EQ(alone.code, 0);
    EXPECT_NE(
        alone.err.find("null product: no law for qk@0,0: it needs the variances of qk_content and qk_rope"),
        std::string::npos)
        << alone.err;
    expect_failure("spectra " + recipe + " --draws 0", 2, {"--draws"});
    expect_failure("spectra nowhere.toml --draws 2", 66, {"nowhere.toml"});
}

TEST_F(CommandLine, SpectraSayWhatTheyCannotRead) {
    write_llama(folder_.path() / "llama", false);
    expect_failure("spectra nowhere", 66, {"nowhere"});
    expect_failure("spectra llama --scopes heads", 2, {"--scopes heads", "did you mean \"head\"?"});
    expect_failure("spectra llama --scopes rope", 2, {"--scopes rope"});
    expect_failure("spectra llama --scopes logits", 2, {"--scopes logits: expected scopes of weights"});
    expect_failure("spectra llama --mp-variance mean", 2, {"--mp-variance mean", "did you mean \"median\"?"});
    expect_failure("spectra llama --nulls gauss", 2, {"--nulls gauss", "\"product\", \"mp\", \"permuted\""});
    expect_failure("spectra llama llama --npz x.npz", 2, {"--npz"});
    expect_failure("spectra llama --json /proc/x", 74, {"/proc/x"});
    std::filesystem::resize_file(folder_.path() / "llama" / "model.safetensors", 50);
    expect_failure("spectra llama", 65, {"model.safetensors"});
}

}  // namespace
}  // namespace pastur
