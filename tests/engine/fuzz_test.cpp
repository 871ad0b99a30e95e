// Feeds damaged bytes to the parsers of engine/ and diag/. They must return a result or throw an Error that
// names the file, and never crash, loop endlessly or use much memory. tools/test.sh runs this under
// -fsanitize=address,undefined.
#include "tests/support/fuzz.h"

#include <nlohmann/json.hpp>

#include "data/corpus/utf8.h"
#include "data/synth/synth.h"
#include "data/tokenizer/byte_characters.h"
#include "data/tokenizer/split_pattern.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train_tokenizer.h"
#include "diag/npz_reader.h"
#include "engine/io/json_text.h"
#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "engine/model/recipe.h"
#include "engine/spectra/spectra_files.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/model_folder.h"
#include "engine/train/environment.h"
#include "engine/train/hugging_face/hf_index.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/sample_run.h"
#include "tests/support/source_folder.h"
#include "tools/pastur/report/page_record.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Fuzz;
using test::read_bytes;
using test::write_bytes;

/// The bytes of a checkpoint's model.safetensors with two tensors and a recipe.
std::string safetensors_bytes(const fs::path& folder) {
    const std::vector<float> a = {1, 2, 3, 4, 5, 6};
    const std::vector<int32_t> b = {7};
    const auto bytes_of = [](const auto& values) {
        return [&values] { return std::as_bytes(std::span(values)); };
    };
    write_safetensors(folder / "seed",
                      {{"model.a", DType::kF32, {2, 3}, bytes_of(a)}, {"b", DType::kI32, {1}, bytes_of(b)}},
                      {{"recipe", to_toml(test::tiny_config("variant = \"mha\""))}});
    return read_bytes(folder / "seed");
}

TEST_F(Fuzz, Safetensors) {
    mutate_and_read("a.safetensors", {safetensors_bytes(folder_.path())}, 4000, [](const std::string& path) {
        const SafetensorsFile file(path);
        size_t total = 0;
        for (const auto& [name, entry] : file.entries())
            for (const std::byte byte : entry.bytes) total += static_cast<size_t>(byte);
        EXPECT_LE(total, 255 * file.bytes().size());
    });
}

TEST_F(Fuzz, CheckpointRecipe) {
    mutate_and_read("model.safetensors", {safetensors_bytes(folder_.path())}, 2000,
                    [](const std::string& path) { read_checkpoint_config(fs::path(path).parent_path()); });
}

TEST_F(Fuzz, CheckpointState) {
    mutate_and_read("state.json",
                    {"{\n  \"v\": 1,\n  \"step\": 12,\n  \"tokens\": 768,\n  \"skipped\": 0,\n"
                     "  \"data_fingerprint\": 12345678901234567890\n}\n"},
                    2000,
                    [](const std::string& path) { read_checkpoint_state(fs::path(path).parent_path()); });
}

// The hash is compared after the parser has read everything, so damage reaches the parser.
TEST_F(Fuzz, Manifest) {
    write_bytes(folder_.path() / "a.safetensors", safetensors_bytes(folder_.path()));
    write_bytes(folder_.path() / "state.json", "{}");
    write_manifest(folder_.path());
    const std::string sealed = read_bytes(folder_.path() / kManifestName);
    mutate_and_read(kManifestName, {sealed}, 1500,
                    [](const std::string& path) { inspect_manifest(fs::path(path).parent_path()); });
}

TEST_F(Fuzz, HuggingFaceConfig) {
    const auto written = [](const char* attention) {
        return hf_config_json(test::tiny_config(attention), {{1}, {2, 3}}, WeightFormat::kBf16,
                              RopeRows::kNeighbours);
    };
    mutate_and_read("config.json",
                    {written("variant = \"mha\""), written("variant = \"mla-decoupled\"\nrope_dim = 2"),
                     written("variant = \"mla-prerope\"")},
                    1000, [](const std::string& path) { read_hf_config(path); });
}

TEST_F(Fuzz, HuggingFaceIndex) {
    mutate_and_read(kHfIndexFile,
                    {"{\n  \"metadata\": {\"total_size\": 12},\n  \"weight_map\": {\n    \"lm_head.weight\": "
                     "\"model-00002-of-00002.safetensors\",\n    \"model.norm.weight\": "
                     "\"model-00001-of-00002.safetensors\"\n  }\n}\n"},
                    2000, [](const std::string& path) {
                        const HfIndex index(path);
                        EXPECT_FALSE(index.files().empty());
                        index.check({});
                    });
}

TEST_F(Fuzz, Npz) {
    const std::vector<test::NpzMember> members = {{"layers.0.qk", {3}, {3, 2, -0.5}},
                                                  {"layers.0.qk.heads", {2, 2}, {1, 0.25, 1e-300, 5e300}}};
    mutate_and_read("a.npz", {test::make_npz(members, false), test::make_npz(members, true)}, 2000,
                    [](const std::string& path) {
                        const NpzReader reader{fs::path(path)};
                        for (const std::string& name : reader.names()) {
                            const NpzContent array = reader.read(name);
                            EXPECT_EQ(array.shape, reader.shape(name));
                        }
                    });
}

TEST_F(Fuzz, Recipe) {
    const std::string nano = read_bytes(test::source_file("tools/recipes/nano-mha.toml"));
    mutate_and_read(
        "a.toml", {nano, to_toml(test::tiny_config("variant = \"mla-prerope\""))}, 2000,
        [](const std::string& path) {
            try {
                parse_config(read_bytes(path), path, {});
            } catch (const Error& error) {
                // A default or preset that contradicts other keys is named instead of the file.
                const std::string text = error.what();
                const bool given = text.find("(default)") == text.npos && text.find("(preset ") == text.npos;
                fail(error.code(), "{}{}", given ? "" : path + ": ", text);
            }
        },
        ExitCode::kUsage);
}

TEST_F(Fuzz, TokenizerModel) {
    uint64_t story = 0;
    const std::string model = train_tokenizer(320, [&](std::string& text) {
        text = synthetic_story(1, story);
        return story++ < 30;
    });
    mutate_and_read("tokenizer.model", {model}, 300, [](const std::string& path) {
        const auto tokenizer = load_tokenizer(path);
        const std::vector<int32_t> ids = tokenizer->encode("Once upon a time, \xc3\xa9t\xc3\xa9.");
        for (const int32_t id : ids) EXPECT_TRUE(id >= 0 && id < tokenizer->vocab_size());
        EXPECT_LT(tokenizer->decode(ids).size(), 1u << 20);
    });
}

// Damaged patterns, merges, ids and added tokens, and files beside that name the end of a document.
TEST_F(Fuzz, TokenizerJson) {
    const auto encode = [](const std::string& path) {
        const auto tokenizer = load_tokenizer(path);
        const std::vector<int32_t> ids = tokenizer->encode(
            "Once upon a time, \xc3\xa9t\xc3\xa9 e\xcc\x81  12345\n\n <|endoftext|> <mask> 's x");
        for (const int32_t id : ids) EXPECT_TRUE(id >= 0 && id < tokenizer->vocab_size());
        EXPECT_LT(tokenizer->decode(ids).size(), 1u << 20);
    };
    const std::string golden = test::source_file("tests/golden/tokenizers/");
    std::vector<std::string> seeds;
    for (const char* name : {"gpt2", "qwen2", "deepseek"}) {
        // Most of a file is the vocabulary. With the 256 bytes alone, mutations meet the rest.
        auto json = nlohmann::ordered_json::parse(test::read_bytes(golden + name + "/tokenizer.json"));
        seeds.push_back(json.dump());
        auto& vocab = json["model"]["vocab"];
        nlohmann::ordered_json bytes;
        for (int byte = 0; byte < 256; ++byte) bytes[character_of_byte(static_cast<uint8_t>(byte))] = byte;
        bytes["ab"] = 256;
        vocab = bytes;
        json["model"]["merges"] = {"a b"};
        int64_t id = 257;
        for (auto& token : json["added_tokens"]) token["id"] = id++;
        seeds.push_back(json.dump());
    }
    write_bytes(folder_.path() / "tokenizer_config.json", R"({"eos_token": "a"})");
    mutate_and_read("tokenizer.json", seeds, 100, encode);
    write_bytes(folder_.path() / "tokenizer.json", seeds[1]);
    mutate_and_read("tokenizer_config.json",
                    {R"({"eos_token": {"content": "<|endoftext|>"}, "x": [1, "y"]})"}, 200,
                    [&](const std::string& path) {
                        encode(std::filesystem::path(path).parent_path() / "tokenizer.json");
                    });
}

// Patterns that are let through find their matches in order, and stop.
TEST_F(Fuzz, SplitPatterns) {
    const std::string good =
        R"((?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|[\p{Lu}\x{e9}-\u00ff]*?x\d|\+\P{M}\S)";
    const std::string text =
        "I'S caf\xc3\xa9  12345 \r\n\t xx1 +\xcc\x81\xe4\xbd\xa0 aaaaaaaaaaaaaaaaaaaaaaaaaa    \n";
    SplitMix random(4);
    int accepted = 0;
    for (int i = 0; i < 4000; ++i) {
        const std::string pattern = repair_utf8(test::mutate(good, random));
        SCOPED_TRACE(pattern);
        const test::Cost cost = test::cost_of([&] {
            try {
                const SplitPattern split(pattern, "pattern");
                SplitPattern::Matcher matcher(split);
                for (size_t done = 0; done < text.size();) {
                    const SplitPattern::Match match = matcher.find(text, done);
                    ASSERT_GE(match.begin, done);
                    ASSERT_LE(match.end, text.size());
                    ASSERT_TRUE(match.end > match.begin || match.begin == text.size());
                    done = match.end;
                }
                ++accepted;
            } catch (const Error& error) {
                EXPECT_EQ(error.code(), ExitCode::kCorruptData) << error.what();
            }
        });
        EXPECT_LT(cost.seconds, 0.5);
    }
    EXPECT_GT(accepted, 200);
}

// A resumed run reads its log of spectra: damaged lines are dropped, and the run continues.
TEST_F(Fuzz, SpectraSummary) {
    std::string lines;
    for (int step = 0; step < 4; ++step)
        lines += "{\"v\":1,\"step\":" + std::to_string(step) +
                 ",\"layer\":0,\"head\":-1,\"matrix\":\"qk\",\"null\":\"mp\",\"lambda_max\":1.5}\n"
                 "{\"v\":2,\"step\":" +
                 std::to_string(step) +
                 ",\"layer\":0,\"head\":-1,\"matrix\":\"qk\",\"lambda_max\":1.5,\"flags\":[\"zero\"],"
                 "\"nulls\":{\"mp\":{\"ks\":0.5,\"flags\":[\"null_zero\"]}}}\n";
    SplitMix random(3);
    for (int i = 0; i < 1000; ++i) {
        write_bytes(folder_.path() / "summary.jsonl", test::mutate(lines, random));
        int replayed = 0;
        SpectraFiles(folder_.path()).open(2, [&](const LoggedRecord&) { ++replayed; });
        EXPECT_LE(replayed, 24);
    }
}

TEST_F(Fuzz, RunRecords) {
    const fs::path run = folder_.path() / "run";
    test::write_sample_run(run, {.measured = {0, 10}});
    std::vector<std::string> notes;
    RunRecord record;
    record.statistics.matrices[{"qk", false}].pairs["nulls/mp/lag/0.5"] = {{1, 2}, {3, INFINITY}};
    record.page = page_record(read_report_run(run), read_metric_grids(run / "spectra", notes));
    write_run_record(record_of(folder_.path()), record);
    const std::string seed = read_bytes(record_of(folder_.path()));
    mutate_and_read("statistics.json", {seed}, 4000, [](const std::string& path) {
        const RunRecord damaged = read_run_record(path);
        std::vector<MetricGrid> maps;
        if (!damaged.page.is_null()) read_recorded_run(fs::path(path).parent_path(), damaged.page, maps);
        for (const MetricGrid& map : maps)
            for (const auto& [name, values] : map.metrics)
                EXPECT_EQ(values.size(), map.steps.size() * map.layers.size());
    });
}

// Millions of nested brackets: copying or printing such a value recursively would overflow the stack.
TEST_F(Fuzz, DeepJson) {
    const fs::path folder = folder_.path();
    const std::string deep = std::string(3'000'000, '[') + std::string(3'000'000, ']');
    const auto refused = [](const auto& read) {
        test::expect_error(ExitCode::kCorruptData, {".json: "}, read);
    };
    write_bytes(folder / kManifestName, "{\"version\":1,\"files\":" + deep + "}");
    refused([&] { inspect_manifest(folder); });
    write_bytes(folder / "env.json", "{\"threads\":" + deep.substr(2'600'000, 800'000) + "}");
    refused([&] { read_environment(folder / "env.json"); });
    write_bytes(folder / "state.json", "{\"step\":" + deep.substr(2'600'000, 800'000) + "}");
    refused([&] { read_checkpoint_state(folder); });
    const std::string line = "{\"event\":\"start\",\"step\":1,\"matrix\":\"qk\",\"null\":" + deep + "}\n";
    write_bytes(folder / "summary.jsonl", line);
    SpectraFiles(folder).open(2, [](const auto&) { ADD_FAILURE() << "replayed a damaged line"; });
    write_bytes(folder / "metrics.jsonl", line + "{\"event\":\"train\",\"step\":1,\"loss\":2}\n");
    fs::remove(folder / "env.json");
    EXPECT_EQ(read_report_run(folder).train.rows(), 1u);
    EXPECT_TRUE(parse_json(deep.substr(2'999'990, 20)).is_array());
}

}  // namespace
}  // namespace pastur
