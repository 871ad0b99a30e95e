// pastur convert, and what eval, spectra, export and train.init_from make of its checkpoints.
#include <nlohmann/json.hpp>

#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Result;

class Convert : public test::TrainingLine {
  protected:
    void train(const std::string& settings = "") const {
        expect_success(
            "train r.toml --run run --device cpu --diagnostics.every=0 --diagnostics.early=[] "
            "--model.kv_heads=1 " +
            settings);
    }
    Result expect_success(const std::string& arguments) const {
        Result result = run(arguments);
        EXPECT_EQ(result.code, 0) << arguments << ": " << result.err;
        return result;
    }
    json read_json(const std::string& name) const { return json::parse(read_file(file(name), 1 << 20)); }
    double loss(const std::string& folder) const {
        const Result result =
            expect_success("eval --checkpoint " + folder + " --data corpus --tokens 512 --device cpu --json");
        return result.code == 0 ? json::parse(result.out)["loss"].get<double>() : 0;
    }
    static constexpr const char* kMeasured =
        " --calibrate corpus --calibrate-tokens 1024 --eval-tokens 512 --device cpu ";
};

TEST_F(Convert, ACheckpointEvaluatesToTheLastStageAndTrainsOn) {
    train();
    expect_success(
        std::string("convert run --to mla-decoupled --kv-rank 5 --rope-dim 4 --q-rank 12 --latent-norm --out "
                    "converted --json report.json") +
        kMeasured);
    const json report = read_json("report.json");
    EXPECT_EQ(report["cache_bytes"], 2 * 2 * 16);
    EXPECT_EQ(report["cache_bytes_after"], 2 * 2 * 9);
    ASSERT_EQ(report["stages"].size(), 5u);
    // eval computes other batches than convert.
    EXPECT_NEAR(report["stages"][0]["loss"].get<double>(), loss("run"), 1e-6);
    EXPECT_EQ(report["stages"][4]["after"], "latent norm");
    EXPECT_NEAR(report["stages"][4]["loss"].get<double>(), loss("converted"), 1e-6);
    ASSERT_EQ(report["layers"].size(), 2u);
    for (const json& layer : report["layers"])
        for (const char* part : {"rope", "keys", "values", "queries"}) {
            EXPECT_GT(layer[part].get<double>(), 0) << part;
            EXPECT_LE(layer[part].get<double>(), 1 + 1e-9) << part;
        }
    expect_success("verify converted");
    expect_success("spectra converted --device cpu");
    expect_success("export --checkpoint converted --out hf");
    EXPECT_EQ(json::parse(read_file(file("hf/config.json"), 1 << 16))["architectures"][0],
              "DeepseekV3ForCausalLM");
    EXPECT_NEAR(loss("hf"), loss("converted"), 1e-6);
    expect_success(
        "train r.toml --run next --device cpu --train.steps=2 --train.init_from=converted "
        "--attention.variant=mla-decoupled --attention.kv_rank=5 --attention.rope_dim=4 --attention.nope_dim=8 "
        "--attention.v_dim=8 --attention.q_rank=12");
    // The first validation is of the weights of step 0.
    EXPECT_NEAR(metrics("next")[1]["loss"].get<double>(), loss("converted"), 0.5);
}

TEST_F(Convert, LatentsWithoutNormKeepTheirClassAndMultiplyOut) {
    train();
    expect_success(std::string("convert run --kv-rank 6 --rotation real --out converted") + kMeasured);
    const double converted = loss("converted");
    expect_success("export --checkpoint converted --out hf --max-shard-size 4KB");
    EXPECT_EQ(json::parse(read_file(file("hf/config.json"), 1 << 16))["architectures"][0],
              "PasturForCausalLM");
    EXPECT_NEAR(loss("hf"), converted, 1e-6);
    expect_success(
        "convert hf --to mha-shared-rope --eval corpus --eval-tokens 512 --out back --json back.json --device cpu");
    EXPECT_NEAR(loss("back"), converted, 1e-5);
    EXPECT_EQ(read_json("back.json")["stages"][1]["loss"].get<double>(), loss("back"));
    expect_failure("convert converted --to mha-shared-rope --kv-rank 4 --out other", 2,
                   {"--to mha-shared-rope", "--kv-rank", "keeps its sizes"});
    expect_failure("convert converted --to mha --out other", 2, {"--to mha", "mha-shared-rope", "content"});
}

TEST_F(Convert, ADryRunShowsTheTradeAndWritesNothing) {
    train();
    const Result result = expect_success(std::string("convert run --dry-run --json trade.json") + kMeasured);
    EXPECT_NE(result.out.find("complex"), std::string::npos);
    const json trades = read_json("trade.json")["trades"];
    ASSERT_EQ(trades.size(), 6u);  // 2, 4 and 8, the full rank, with each rotation
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(trades[i]["rotation"], "real");
        EXPECT_EQ(trades[i + 3]["rotation"], "complex");
        EXPECT_EQ(trades[i]["kv_rank"], 2 << i);
        // One head of keys: nothing is left without RoPE.
        EXPECT_NEAR(trades[i]["kept"]["rope"].get<double>(), 1, 1e-9);
    }
    EXPECT_NEAR(trades[2]["loss"].get<double>(), loss("run"), 1e-5);
}

TEST_F(Convert, CalibratesOnTextWithTheTokenizerOfTheRecipe) {
    train();
    const std::string measured = " --kv-rank 6 --calibrate-tokens 1024 --eval-tokens 256 --device cpu ";
    expect_success("convert run --calibrate stories.txt --out text --json text.json" + measured);
    EXPECT_EQ(read_json("text.json")["calibrate_tokens"], 1024);
    expect_success("convert run --calibrate 'corpus/train_*.bin' --eval stories.txt --out shards" + measured);
    fs::remove(file("corpus/meta.json"));
    expect_failure("convert run --calibrate stories.txt --out other" + measured, 66,
                   {"tokenizer.model", "shards"});
}

TEST_F(Convert, RefusesBadInputWithOneLine) {
    train();
    const std::string to = std::string(" --out c") + kMeasured;
    expect_failure("convert run --kv-rank 9" + to, 2, {"--kv-rank 9: expected 1 to 8"});
    expect_failure("convert run --kv-rank 4 --rope-dim 3" + to, 2, {"--rope-dim 3: expected 2, 4, 8"});
    expect_failure("convert run --kv-rank 4 --rope-dim 4 --fold 3" + to, 2, {"--fold 3: expected 1, 2, 4"});
    expect_failure("convert run --kv-rank 4 --q-rank 17" + to, 2, {"--q-rank 17: expected 1 to 16"});
    expect_failure("convert run --kv-rank 4 --rotation imaginary" + to, 2,
                   {"--rotation imaginary", "real", "complex"});
    expect_failure("convert run --kv-rank 4 --to mla-decouple" + to, 2,
                   {"--to mla-decouple", "mla-decoupled"});
    expect_failure("convert run --kv-rank 4 --to mtla" + to, 2, {"--to mtla", "mha to mla-decoupled"});
    expect_failure("convert run" + to, 2, {"--kv-rank", "--dry-run"});
    expect_failure("convert run --kv-rank 4 --out c --device cpu", 2, {"--calibrate"});
    expect_failure(std::string("convert run --kv-rank 4") + kMeasured, 2, {"--out"});
    expect_failure("convert run --kv-rank 4 --out corpus --calibrate corpus", 2, {"corpus exists already"});
    expect_failure("convert absent --kv-rank 4" + to, 66, {"absent"});
    expect_failure("convert run --kv-rank 4 --calibrate absent.txt --out c", 66, {"absent.txt"});
    expect_failure("convert run --kv-rank 4 --calibrate 'absent/*.bin' --out c", 66, {"absent/*.bin"});
    write("short.txt", "a");
    expect_failure("convert run --kv-rank 4 --calibrate short.txt --out c", 65,
                   {"short.txt", "at least 2 sequences"});
    EXPECT_FALSE(fs::exists(file("c")));
}

TEST_F(Convert, RefusesDataOfAnotherTokenizerAndModelsItCannotCompute) {
    train("--model.vocab=300");
    expect_success("data prepare --input stories.txt --tokenizer train:320 --out pieces --val-fraction 0.1");
    expect_failure("convert run --kv-rank 4 --calibrate pieces --out c --device cpu", 65,
                   {"pieces", "tokenizer"});
    expect_success("export --checkpoint run --out hf");
    json config = json::parse(read_file(file("hf/config.json"), 1 << 16));
    config["model_type"] = "mixtral";
    write("hf/config.json", config.dump());
    expect_failure(std::string("convert hf --kv-rank 4 --out c") + kMeasured, 65, {"mixtral"});
    fs::remove_all(file("run"));
    train("--attention.variant=mla-prerope");
    expect_failure(std::string("convert run --kv-rank 4 --out c") + kMeasured, 2,
                   {"expected a model of attention.variant \"mha\"", "mla-prerope"});
}

}  // namespace
}  // namespace pastur
