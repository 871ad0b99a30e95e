// pastur export and import, and what eval, verify, spectra and train.init_from make of their folders.
#include <nlohmann/json.hpp>

#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "engine/model/attention/variants.h"
#include "tests/support/source_folder.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Result;

class Export : public test::TrainingLine {
  protected:
    static constexpr const char* kIndex = "model.safetensors.index.json";

    void train(const std::string& settings) const {
        expect_success("train r.toml --run run --device cpu --diagnostics.every=0 --diagnostics.early=[] " +
                       settings);
    }
    void expect_success(const std::string& arguments) const {
        const Result result = run(arguments);
        EXPECT_EQ(result.code, 0) << arguments << ": " << result.err;
    }
    double loss(const std::string& folder) const {
        const Result result =
            run("eval --checkpoint " + folder + " --data corpus --tokens 256 --device cpu --json");
        EXPECT_EQ(result.code, 0) << result.err;
        return result.code == 0 ? json::parse(result.out)["loss"].get<double>() : 0;
    }
    std::map<std::string, std::string> files_of(const std::string& folder) const {
        std::map<std::string, std::string> files;
        for (const auto& entry : fs::directory_iterator(file(folder)))
            files[entry.path().filename().string()] = read_file(entry.path(), 1 << 24);
        return files;
    }
    json index(const std::string& folder) const {
        return json::parse(read_file(file(folder + "/" + kIndex), 1 << 20));
    }
    /// Commands that read models refuse the folder "hf" alike.
    void expect_refused(int code, const std::vector<std::string>& parts) const {
        for (const char* command : {"verify hf", "eval --checkpoint hf --data corpus --device cpu",
                                    "import hf --out imported", "export --checkpoint hf --out exported"}) {
            const Result result = run(command);
            EXPECT_EQ(result.code, code) << command << ": " << result.err;
            EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
            for (const std::string& part : parts)
                EXPECT_NE(result.err.find(part), std::string::npos) << part << " in " << result.err;
        }
        EXPECT_FALSE(fs::exists(file("imported")));
        EXPECT_FALSE(fs::exists(file("exported")));
    }
    /// Writes model.safetensors of the folder "hf" again, with a change to the list of its tensors.
    template <typename Change>
    void rewrite(const std::string& name, Change change) const {
        const std::string path = file("hf/" + name);
        std::vector<TensorSource> tensors;
        {
            const SafetensorsFile before(path);
            for (const auto& [tensor, entry] : before.entries())
                tensors.push_back({tensor, DType::kF32, entry.shape,
                                   [bytes = std::vector(entry.bytes.begin(), entry.bytes.end())] {
                                       return std::span(bytes);
                                   }});
        }
        change(tensors);
        fs::remove(path);
        write_safetensors(path, tensors, {{"format", "pt"}});
    }
    void export_in_shards() const {
        fs::remove_all(file("hf"));
        expect_success("export --checkpoint run --out hf --max-shard-size 4KB");
    }
};

TEST_F(Export, RoundTripsKeepEveryByteAndTheLoss) {
    for (const char* settings :
         {"--model.kv_heads=1", "--model.tie_embeddings=true --attention.qk_norm=head",
          "--attention.variant=mla-decoupled --attention.rope_dim=4 --attention.q_rank=6",
          "--attention.variant=mla-prerope", "--attention.variant=mtla --train.weights=bf16"}) {
        SCOPED_TRACE(settings);
        for (const char* folder : {"run", "hf", "imported", "again"}) fs::remove_all(file(folder));
        train(settings);
        expect_success("export --checkpoint run --out hf --max-shard-size 10KB");
        expect_success("import hf --out imported");
        expect_success("export --checkpoint imported --out again --max-shard-size 10KB");
        EXPECT_TRUE(files_of("hf") == files_of("again"));
        EXPECT_GT(index("hf")["weight_map"].size(), 10u);
        const double trained = loss("run");
        EXPECT_EQ(loss("hf"), trained);
        EXPECT_EQ(loss("imported"), trained);
        for (const char* path : {"hf", "imported", "run"}) expect_success(std::string("verify ") + path);
        for (const char* dtype : {"bf16", "fp16"}) {
            fs::remove_all(file("hf"));
            expect_success(std::string("export --checkpoint run --out hf --dtype ") + dtype);
            EXPECT_FALSE(fs::exists(file(std::string("hf/") + kIndex)));
            EXPECT_NEAR(loss("hf"), trained, 0.01);
            expect_success("spectra hf --device cpu");
        }
    }
}

TEST_F(Export, TrainingContinuesFromAnImport) {
    train("--attention.variant=mla-decoupled --attention.rope_dim=4");
    expect_success("export --checkpoint run --out hf");
    const Result import = run("import hf --out imported");
    EXPECT_EQ(import.code, 0) << import.err;
    write("next.toml", import.out);
    const std::string settings =
        " --data.dir=corpus --device cpu --diagnostics.every=0 --diagnostics.early=[] --train.steps=2 --train.global_batch=4 "
        "--data.seq_len=16 ";
    expect_success("train next.toml --run next" + settings);
    expect_success("train next.toml --run other --train.init_from=run" + settings);
    const auto losses = [&](const std::string& name) {
        std::vector<json> all;
        for (const json& event : metrics(name))
            if (event.contains("loss")) all.push_back(event["loss"]);
        return all;
    };
    expect_success("train next.toml --run direct --train.init_from=hf" + settings);
    EXPECT_EQ(losses("next"), losses("other"));
    EXPECT_EQ(losses("next"), losses("direct"));
    expect_failure("train r.toml --run third --train.init_from=imported --device cpu", 2,
                   {"change [model] and [attention] to those of the checkpoint", "variant"});
}

// A byte-level BPE tokenizer goes from tokenizer.json into the data, the checkpoint, the export and data made with it.
TEST_F(Export, TokenizerJsonTravelsWithTheWeights) {
    const std::string golden = test::source_file("tests/golden/tokenizers/llama3");
    const std::string line = "data prepare --input stories.txt --val-fraction 0.1 --tokenizer ";
    expect_success(line + golden + "/tokenizer.json --out bpe");
    const json meta = json::parse(read_file(file("bpe/meta.json"), 1 << 20));
    EXPECT_EQ(meta["tokenizer"], "bpe");
    const Result info = run("data info bpe");
    EXPECT_NE(info.out.find("bpe"), std::string::npos) << info.out << info.err;
    EXPECT_EQ(info.out.find("begins:\n    ids "), std::string::npos) << info.out;  // text, not ids
    train("--data.dir=bpe --model.vocab=" + meta["vocab_size"].dump());
    const std::string checkpoint = "run/checkpoints/step_00000004";
    const json config = json::parse(read_file(file(checkpoint + "/config.json"), 1 << 20));
    EXPECT_EQ(config["eos_token_id"], meta["eos_id"]);
    expect_success("export --checkpoint run --out hf");
    expect_success("import hf --out imported");
    for (const std::string folder : {"bpe", checkpoint.c_str(), "hf", "imported"})
        for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
            EXPECT_EQ(read_file(file(folder + "/" + name), 1 << 20), read_file(golden + "/" + name, 1 << 20))
                << folder;
    EXPECT_NE(run("verify run").out.find("tokenizer.json"), std::string::npos);
    for (const std::string folder : {"bpe", checkpoint.c_str(), "hf"}) {
        expect_success(line + folder + " --force --out again");
        EXPECT_EQ(read_file(file("again/train_000000.bin"), 1 << 24),
                  read_file(file("bpe/train_000000.bin"), 1 << 24))
            << folder;
    }
}

TEST_F(Export, TrainingFromAFolderOfTransformersRefusesOtherModels) {
    train("");
    expect_success("export --checkpoint run --out hf --dtype bf16");
    const auto expect_refused_start = [&](const std::string& more, int code,
                                          std::initializer_list<std::string> parts) {
        expect_failure("train r.toml --run next --device cpu --train.init_from=hf " + more, code, parts);
        EXPECT_FALSE(fs::exists(file("next/checkpoints/step_00000002")));
        fs::remove_all(file("next"));
    };
    expect_refused_start("--model.layers=1", 2,
                         {"train.init_from names", "`layers = 2` is now `layers = 1`"});
    expect_refused_start("--attention.variant=mha-nope", 2, {"train.init_from names", "variant"});
    const Result scaled = run(
        "train r.toml --run next --device cpu --train.init_from=hf --model.rope_theta=500000 --train.steps=1");
    EXPECT_EQ(scaled.code, 0) << scaled.err;
    EXPECT_NE(scaled.out.find("model.rope_theta is 500000, but the weights were trained with 10000"),
              std::string::npos)
        << scaled.out;
    fs::remove_all(file("next"));
    json config = json::parse(read_file(file("hf/config.json"), 1 << 20));
    config["attention_bias"] = true;
    write("hf/config.json", config.dump());
    expect_refused_start("", 65, {"hf/config.json", "attention_bias"});
    config.erase("attention_bias");
    write("hf/config.json", config.dump());
    fs::resize_file(file("hf/model.safetensors"), 1000);
    expect_refused_start("", 65, {"hf/model.safetensors"});
}

/// The largest singular value of every matrix of queries and keys, in the order of the lines.
TEST_F(Export, SpectraOfSixteenBitFoldersAreThoseOfTheCheckpoint) {
    const auto measure = [&](const std::string& path) {
        expect_success("spectra " + path + " --device cpu --json s.jsonl");
        std::vector<double> found;
        std::ifstream lines(file("s.jsonl"));
        for (std::string line; std::getline(lines, line);) {
            const json record = json::parse(line);
            EXPECT_TRUE(record.at("lambda_max").is_number()) << line;
            found.push_back(record.at("lambda_max").get<double>());
        }
        return found;
    };
    for (const VariantInfo* variant : variants()) {
        SCOPED_TRACE(variant->name);
        fs::remove_all(file("run"));
        train(fmt::format("--train.steps=2 --attention.variant={}", variant->name));
        const std::vector<double> expected = measure("run");
        ASSERT_FALSE(expected.empty());
        for (const char* dtype : {"bf16", "fp16"}) {
            fs::remove_all(file("hf"));
            expect_success(std::string("export --checkpoint run --out hf --dtype ") + dtype);
            expect_success("verify hf");
            const std::vector<double> found = measure("hf");
            ASSERT_EQ(found.size(), expected.size());
            for (size_t i = 0; i < found.size(); ++i)
                EXPECT_NEAR(found[i], expected[i], 0.02 * expected[i]) << dtype << i;
        }
    }
}

TEST_F(Export, ACheckpointIsAHuggingFaceFolder) {
    expect_success("data prepare --input stories.txt --tokenizer train:400 --out pieces --val-fraction 0.1");
    train("--data.dir=pieces --attention.variant=mla-nope");
    const std::string checkpoint = "run/checkpoints/step_00000004/";
    const json config = json::parse(read_file(file(checkpoint + "config.json"), 1 << 20));
    EXPECT_EQ(config["architectures"], json({"PasturForCausalLM"}));
    const json meta = json::parse(read_file(file("pieces/meta.json"), 1 << 20));
    EXPECT_EQ(config["eos_token_id"], meta["eos_id"]);
    EXPECT_EQ(read_file(file(checkpoint + "tokenizer.model"), 1 << 20),
              read_file(file("pieces/tokenizer.model"), 1 << 20));
    EXPECT_EQ(json::parse(read_file(file(checkpoint + "tokenizer_config.json"), 1 << 20))["add_prefix_space"],
              false);
    const std::string manifest = read_file(file(checkpoint + kManifestName), 1 << 20);
    for (const char* name : {"config.json", "generation_config.json", "modeling_pastur.py", "tokenizer.model",
                             "tokenizer_config.json"}) {
        EXPECT_NE(manifest.find(name), std::string::npos) << name;
        EXPECT_NE(run("verify run").out.find(name), std::string::npos) << name;
    }
    expect_success("export --checkpoint run --out hf");
    EXPECT_TRUE(fs::exists(file("hf/tokenizer.model")));
    // Checkpoints of earlier versions have none of these files.
    for (const char* name : {"config.json", "generation_config.json", "modeling_pastur.py", "tokenizer.model",
                             "tokenizer_config.json"})
        fs::remove(file(checkpoint + name));
    expect_failure("verify run", 65, {"config.json", "No such file"});
    write_manifest(file(checkpoint));
    expect_success("verify run");
    expect_success("export --checkpoint run --out old");
    EXPECT_TRUE(json::parse(read_file(file("old/config.json"), 1 << 20))["eos_token_id"].is_null());
}

TEST_F(Export, RefusesDamagedFolders) {
    train("");
    export_in_shards();
    json map = index("hf");
    const std::string first = map["weight_map"].begin().value(), norm = "model.norm.weight";
    const std::string of_norm = map["weight_map"][norm];
    fs::rename(file("hf/" + first), file("away"));
    expect_refused(66, {first});
    fs::rename(file("away"), file("hf/" + first));

    map["weight_map"]["model.layers.9.mlp.up_proj.weight"] = first;
    write(std::string("hf/") + kIndex, map.dump());
    expect_refused(65, {kIndex, "expected tensor \"model.layers.9.mlp.up_proj.weight\" in " + first,
                        "it is in no file"});
    map = index("hf");
    map["weight_map"].erase("model.layers.9.mlp.up_proj.weight");
    map["weight_map"][norm] = first;
    write(std::string("hf/") + kIndex, map.dump());
    expect_refused(65, {kIndex, "expected tensor \"model.norm.weight\" in " + first, "it is in " + of_norm});
    map["weight_map"][norm] = of_norm;
    std::string twice = map.dump();
    twice.insert(twice.find("\"model.norm.weight\""), "\"model.norm.weight\":\"" + of_norm + "\",");
    write(std::string("hf/") + kIndex, twice);
    expect_refused(65, {kIndex, "names tensor \"model.norm.weight\" twice"});
    write(std::string("hf/") + kIndex, map.dump());
    expect_success("verify hf");

    const std::vector<float> ones(16, 1.0f);
    const TensorSource copy = {norm, DType::kF32, {16}, [&] { return std::as_bytes(std::span(ones)); }};
    const std::string other = of_norm == first ? map["weight_map"]["lm_head.weight"] : json(first);
    rewrite(other, [&](std::vector<TensorSource>& tensors) { tensors.push_back(copy); });
    expect_refused(65, {"tensor " + norm + " is in two files"});
}

TEST_F(Export, RefusesOtherTensors) {
    train("");
    const auto expect_after = [&](auto change, const std::vector<std::string>& parts) {
        fs::remove_all(file("hf"));
        expect_success("export --checkpoint run --out hf");
        rewrite("model.safetensors", change);
        expect_refused(65, parts);
    };
    using Tensors = std::vector<TensorSource>;
    const auto named = [](Tensors& tensors, const std::string& name) {
        return std::find_if(tensors.begin(), tensors.end(),
                            [&](const TensorSource& t) { return t.name == name; });
    };
    const std::vector<float> values(64 * 64, 1.0f);
    const auto ones = [&](int64_t count) {
        return
            [&values, count] { return std::as_bytes(std::span(values).first(static_cast<size_t>(count))); };
    };
    const std::string gate = "model.layers.1.mlp.gate_proj.weight";
    expect_after([&](Tensors& tensors) { tensors.erase(named(tensors, gate)); },
                 {"hf: holds no tensor \"" + gate + "\""});
    expect_after(
        [&](Tensors& tensors) {
            *named(tensors, gate) = {gate, DType::kF32, {24, 15}, ones(24 * 15)};
        },
        {"tensor " + gate + " is F32[24, 15]: expected [24, 16]"});
    expect_after(
        [&](Tensors& tensors) {
            *named(tensors, gate) = {gate, DType::kI32, {24, 16}, ones(24 * 16)};
        },
        {"tensor " + gate + " is I32: expected F32, BF16 or F16"});
    const std::string bias = "model.layers.0.mlp.down_proj.bias";
    expect_after(
        [&](Tensors& tensors) {
            tensors.push_back({bias, DType::kF32, {16}, ones(16)});
        },
        {"expected only tensors of mha: \"" + bias + "\" is not one of them"});
    // A table of the rotation, which old folders hold, is not read.
    fs::remove_all(file("hf"));
    expect_success("export --checkpoint run --out hf");
    rewrite("model.safetensors", [&](Tensors& tensors) {
        tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {4}, ones(4)});
    });
    expect_success("verify hf");
    EXPECT_EQ(loss("hf"), loss("run"));
}

TEST_F(Export, NamesNumbersThatAreNotFiniteOrTooLarge) {
    train("");
    expect_success("export --checkpoint run --out hf");
    std::vector<float> values(16, 1.0f);
    const auto with = [&](float number) {
        values[3] = number;
        rewrite("model.safetensors", [&](std::vector<TensorSource>& tensors) {
            for (TensorSource& tensor : tensors)
                if (tensor.name == "model.norm.weight")
                    tensor.bytes = [&] { return std::as_bytes(std::span(values)); };
        });
    };
    with(70000);
    expect_failure(
        "export --checkpoint hf --out half --dtype fp16", 65,
        {"tensor model.norm.weight: expected numbers below 65520", "element 3 is 70000; take bf16"});
    EXPECT_FALSE(fs::exists(file("half")));
    expect_success("export --checkpoint hf --out half --dtype bf16");
    with(std::numeric_limits<float>::quiet_NaN());
    expect_failure("verify hf", 65, {"tensor model.norm.weight: expected finite numbers: element 3 is nan"});
}

TEST_F(Export, SaysWhatItExpects) {
    train("");
    expect_failure("export --checkpoint run --out x --dtype fp8", 2, {"--dtype fp8: expected one of"});
    for (const char* size : {"5", "GB", "0GB", "5 GB", "-1GB", "1e9B"})
        expect_failure(std::string("export --checkpoint run --out x --max-shard-size '") + size + "'", 2,
                       {"--max-shard-size", "expected a number and KB, MB, GB"});
    expect_failure("export --checkpoint none --out x", 66, {"none: no such file or folder"});
    expect_failure("import corpus --out x", 66, {"corpus", "contains no checkpoint"});
    expect_failure("import run/checkpoints/step_00000004 --out x", 2,
                   {"expected a Hugging Face folder: this is a checkpoint of pastur"});
    expect_success("export --checkpoint run --out hf");
    expect_failure("export --checkpoint run --out hf", 2, {"hf"});
    expect_failure("import hf --out run", 2, {"run"});
    fs::resize_file(file("hf/model.safetensors"), 1000);
    expect_refused(65, {"hf/model.safetensors"});
}

TEST_F(Export, EvalWritesLogits) {
    train("");
    const auto eval = [&](const std::string& more) {
        return run(
            "eval --checkpoint run --data corpus --tokens 32 --device cpu --json --logits l.safetensors " +
            more);
    };
    const Result result = eval("");
    EXPECT_EQ(result.code, 0) << result.err;
    const SafetensorsFile logits(file("l.safetensors"));
    double total = 0;
    for (const char* i : {"0", "1"}) {
        const ConstTensor tokens = logits.tensor(std::string("tokens.") + i, DType::kI32, {16});
        const ConstTensor all = logits.tensor(std::string("logits.") + i, DType::kF32, {16, 512});
        const auto* ids = reinterpret_cast<const int32_t*>(tokens.bytes());
        const auto* values = reinterpret_cast<const float*>(all.bytes());
        for (int t = 0; t < 15; ++t) {
            double sum = 0;
            for (int v = 0; v < 512; ++v) sum += std::exp(static_cast<double>(values[t * 512 + v]));
            total += std::log(sum) - values[t * 512 + ids[t + 1]];
        }
    }
    // The loss is over one more token per sequence.
    EXPECT_NEAR(total / 30, json::parse(result.out)["loss"].get<double>(), 0.1);
    EXPECT_EQ(eval("--seq-len 8").code, 0);
    EXPECT_EQ(SafetensorsFile(file("l.safetensors")).entries().size(), 8u);
}

}  // namespace
}  // namespace pastur
