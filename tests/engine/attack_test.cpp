// Files that are made to cost much: each parser is given a small and a four times larger one, and must stay linear in
// time and within a few times the file in memory. With PASTUR_ATTACK_MIB=N the larger file has N MiB and a table is
// printed: tools/dev.sh attack.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "data/corpus/corpus.h"
#include "data/loader.h"
#include "data/megatron_index.h"
#include "data/meta.h"
#include "data/synth/synth.h"
#include "data/tokenizer/byte_characters.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train_tokenizer.h"
#include "diag/npz_reader.h"
#include "engine/io/json_text.h"
#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "engine/model/recipe.h"
#include "engine/train/checkpoint/model_folder.h"
#include "engine/train/scoring/choice_file.h"
#include "kernels/base/random.h"
#include "tests/support/data_files.h"
#include "tests/support/memory_use.h"
#include "tests/support/sample_run.h"
#include "tests/support/source_folder.h"
#include "tests/support/temp_folder.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Cost;
using test::write_bytes;

/// `piece` over and over, about `bytes` of it. '#' in it stands for a number that is different each time.
std::string repeated(const std::string& piece, size_t bytes) {
    std::string text;
    text.reserve(bytes + piece.size() + 16);
    for (int64_t i = 0; text.size() < bytes; ++i)
        for (const char c : piece) c == '#' ? (void)(text += std::to_string(i)) : text.push_back(c);
    return text;
}
/// As repeated(), in brackets and without the comma behind the last piece.
std::string json_list(const std::string& open, const std::string& piece, size_t bytes,
                      const std::string& close) {
    std::string text = open + repeated(piece, bytes);
    text.back() = ' ';
    return text + close;
}

std::string word(uint64_t value, int bytes) {
    return std::string(reinterpret_cast<const char*>(&value), static_cast<size_t>(bytes));
}
std::string safetensors(const std::string& header) {
    return word(header.size(), 8) + header;
}

class Attack : public testing::Test {
  protected:
    /// The most memory: `factor` times the file, and `fixed` MiB that every file may take.
    struct Limit {
        double factor;
        int64_t fixed_mib = 4;
    };
    /// make(n): a file of about n bytes, written under `name`; read(path) may throw an Error.
    void measure(const std::string& what, const std::string& name,
                 const std::function<std::string(size_t)>& make,
                 const std::function<void(const std::string&)>& read, Limit limit, size_t most = SIZE_MAX) {
        const char* const mib = std::getenv("PASTUR_ATTACK_MIB");
        const size_t large = std::min(most, mib ? std::stoul(mib) << 20 : size_t{1} << 20), small = large / 4;
        const std::string path = folder_.path() / name;
        Cost costs[2];
        size_t sizes[2];
        std::string outcome = "read";
        for (const int i : {0, 1}) {
            const std::string bytes = make(i == 0 ? small : large);
            sizes[i] = bytes.size();
            write_bytes(path, bytes);
            costs[i] = test::cost_of([&] {
                try {
                    read(path);
                } catch (const Error& error) {
                    outcome = std::to_string(static_cast<int>(error.code()));
                    EXPECT_NE(error.code(), ExitCode::kOther) << error.what();
                }
            });
        }
        const auto mib_of = [](auto bytes) { return static_cast<double>(bytes) / (1 << 20); };
        if (mib)
            fmt::print("| {} | {} | {:.2f} | {:.2f} | {:.2f} | {:.1f} | {:.1f} | {:.1f} |\n", what, outcome,
                       mib_of(sizes[1]), costs[0].seconds, costs[1].seconds, mib_of(costs[0].bytes),
                       mib_of(costs[1].bytes),
                       static_cast<double>(costs[1].bytes) / static_cast<double>(sizes[1]));
        if (!test::sanitized()) {
            EXPECT_LE(mib_of(costs[1].bytes),
                      limit.factor * mib_of(sizes[1]) + static_cast<double>(limit.fixed_mib))
                << what << ": memory";
        }
        // Four times the bytes; a quadratic parser would take sixteen times as long.
        EXPECT_LE(costs[1].seconds, 8 * costs[0].seconds + 0.3) << what << ": time";
    }
    test::TempFolder folder_{test::folder_in_memory()};
};

TEST_F(Attack, SafetensorsHeaders) {
    constexpr size_t kMost = 15 << 20;  // headers are of 16 MiB at most
    const auto open = [](const std::string& path) { SafetensorsFile file{fs::path(path)}; };
    const auto header = [&](const std::string& what, const std::string& begin, const std::string& piece,
                            const std::string& end) {
        measure(
            "safetensors: " + what, "a.safetensors",
            [=](size_t n) { return safetensors(json_list(begin, piece, n, end)); }, open, {8}, kMost);
    };
    header("tensors", "{", R"("#":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)", "}");
    header("metadata", R"({"__metadata__":{)", R"("#":"",)", "}}");
    header("unknown fields", R"({"a":{)", R"("#":0,)", "}}");
    header("objects", R"({"a":{"x":[)", "{},", "]}}");
    header("empty lists", R"({"a":{"shape":[)", "[],", "]}}");
    header("dimensions", R"({"a":{"dtype":"U8","shape":[)", "1,", R"(],"data_offsets":[0,0]}})");
    header("texts in a list", R"({"a":{"x":[)", R"("",)", "]}}");
    header("a long name", "{\"", "a", "\":0}");
    header("depth", "", "[", "");
}

TEST_F(Attack, Manifests) {
    const auto manifest = [&](const std::string& what, const std::string& begin, const std::string& piece,
                              const std::string& end) {
        measure(
            "manifest: " + what, kManifestName, [=](size_t n) { return json_list(begin, piece, n, end); },
            [](const std::string& path) { verify_manifest(fs::path(path).parent_path()); }, {8}, 15 << 20);
    };
    const std::string tail = R"(},"xxh3_128":""})", files = R"({"version":2,"files":{)";
    manifest("files", files, R"("#":{"bytes":0,"xxh3_128":""},)", tail);
    manifest("tensors", files + R"("a":{"bytes":0,"xxh3_128":"","tensors":{)",
             R"("#":{"begin":0,"bytes":0,"xxh3_128":""},)", "}}" + tail);
    manifest("lists", files + R"("a":[)", "[],", "]" + tail);
    manifest("a long name", files + '"', "a", "\":{}" + tail);
    manifest("other members", "{", R"("#":0,)", "}");
}

TEST_F(Attack, JsonText) {
    constexpr size_t kMost = (1 << 20) - 64;  // longer texts are refused unread
    const auto parse = [](const std::string& path) { parse_json(test::read_bytes(path)); };
    for (const char* piece : {"[],", "{},", "\"\",", "1,", "[", "{\"a\":"})
        measure(
            fmt::format("JSON value: {}", piece), "a.json",
            [=](size_t n) { return json_list("[", piece, n, "]"); }, parse, {1.5, 40}, kMost);
    measure(
        "JSON value: keys", "a.json", [](size_t n) { return json_list("{", "\"#\":0,", n, "}"); }, parse,
        {1.5, 40}, kMost);
    measure(
        "meta.json", "meta.json", [](size_t n) { return json_list("[", "[],", n, "]"); },
        [](const std::string& path) { read_meta(fs::path(path).parent_path()); }, {1.5, 40});
}

TEST_F(Attack, HuggingFaceFolders) {
    const auto open = [](const std::string& path) { ModelFolder folder(fs::path(path).parent_path()); };
    measure("config.json", "config.json", [](size_t n) { return json_list("{\"a\":[", "[],", n, "]}"); },
            open, {1.5, 40});
    write_bytes(folder_.path() / "config.json",
                R"({"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":4,"head_dim":6})");
    const auto index = [&](const std::string& what, const std::string& piece) {
        measure(
            "index.json: " + what, "model.safetensors.index.json",
            [=](size_t n) { return json_list("{\"weight_map\":{", piece, n, "}}"); }, open, {4}, 15 << 20);
    };
    index("tensors", R"("model.layers.#.self_attn.q_proj.weight":"model-1.safetensors",)");
    index("files", R"("#":"#",)");
    index("lists", R"("#":[],)");
}

TEST_F(Attack, ChoiceFiles) {
    constexpr size_t kMost = (1 << 20) - 256;  // longer lines are refused
    const auto read = [](const std::string& path) { read_choices(path, 0); };
    const auto line = [&](const std::string& what, const std::string& piece) {
        measure(
            "choices: " + what, "c.jsonl",
            [=](size_t n) {
                return json_list(R"({"ctx":")", piece, n, R"(","endings":["a","b"],"label":0})");
            },
            read, {1.5, 40}, kMost);
    };
    line("marks", "[a] ");
    line("open brackets", "[[");
    line("line breaks", "[\\n");
    line("titles", " [title]");
    line("white space", "  ");
    measure(
        "choices: endings", "c.jsonl",
        [](size_t n) { return json_list(R"({"ctx":"a","label":0,"endings":[)", "\"#\",", n, "]}"); }, read,
        {1.5, 60}, kMost);
    measure(
        "choices: lines", "c.jsonl",
        [](size_t n) { return repeated("{\"context\":\"#\",\"choices\":[\"a\",\"b\"],\"answer\":0}\n", n); },
        read, {12, 8});
}

TEST_F(Attack, MetricsAndSummaries) {
    const auto report = [](const std::string& path) { read_report_run(fs::path(path).parent_path()); };
    const auto metrics = [&](const std::string& what, const std::string& piece) {
        measure("metrics.jsonl: " + what, "metrics.jsonl",
                [=](size_t n) { return repeated(piece, n) + "\n"; }, report, {6, 40});
    };
    metrics("steps", "{\"event\":\"train\",\"step\":#}\n");
    metrics("events", "{\"event\":\"spike\"}\n");
    metrics("one line of lists", "[],");
    metrics("lines of a list", "{\"event\":\"start\",\"a\":[[],[],[],[],[],[],[]]}\n");
    metrics("empty lines", "\n");
    const auto grids = [](const std::string& path) {
        std::vector<std::string> notes;
        read_metric_grids(fs::path(path).parent_path(), notes);
    };
    const auto summary = [&](const std::string& what, const std::string& piece) {
        measure("summary.jsonl: " + what, "summary.jsonl",
                [=](size_t n) { return repeated(piece, n) + "\n"; }, grids, {10, 40});
    };
    summary("steps", R"({"step":#,"layer":0,"head":-1,"matrix":"q","null":"mp"})"
                     "\n");
    summary("matrices", R"({"step":1,"layer":0,"head":-1,"matrix":"#","null":"mp"})"
                        "\n");
    summary("flags",
            R"({"step":#,"layer":0,"head":-1,"matrix":"q","null":"mp","flags":["","","","","","",""]})"
            "\n");
    summary("scattered", R"({"step":#,"layer":#,"head":#,"matrix":"q","null":"mp"})"
                         "\n");
}

/// A zip archive of members with these contents; `names` in place of unpacked ones. Every entry names the same bytes.
std::string shared_archive(size_t entries, const std::string& packed, uint32_t unpacked, uint16_t method) {
    const std::string local = word(0x04034b50, 4) + std::string(22, '\0') + word(5, 2) + word(0, 2) + "a.npy";
    std::string bytes = local + packed;
    const size_t directory = bytes.size();
    for (size_t i = 0; i < entries; ++i) {
        const std::string name = std::to_string(i) + ".npy";
        std::string entry = word(0x02014b50, 4) + std::string(6, '\0') + word(method, 2) +
                            std::string(8, '\0') + word(packed.size(), 4) + word(unpacked, 4) +
                            word(name.size(), 2) + std::string(16, '\0');
        bytes += entry + name;
    }
    return bytes + word(0x06054b50, 4) + std::string(4, '\0') + word(entries, 2) + word(entries, 2) +
           word(bytes.size() - directory, 4) + word(directory, 4) + word(0, 2);
}

TEST_F(Attack, Npz) {
    const auto read = [](const std::string& path) {
        const NpzReader reader{fs::path(path)};
        for (const std::string& name : reader.names()) {
            try {
                reader.shape(name);
            } catch (const Error&) {
            }
        }
        reader.read(reader.names().back());
    };
    // 65,535 entries at most, of 52 bytes or more.
    measure(
        "npz: names", "a.npz", [](size_t n) { return shared_archive(n / 60, "", 0, 0); }, read, {8}, 3 << 20);
    const std::string zeros(1 << 20, '\0');
    const std::string stream = test::gzip(zeros).substr(10);
    measure(
        "npz: entries of the same bytes", "a.npz",
        [&](size_t n) { return shared_archive(n / 60, stream, 1 << 20, 8); }, read, {8}, 3 << 20);
    measure("npz: a list of dimensions", "a.npz",
            [](size_t n) {
                const std::string text =
                    "{'descr': '<f8', 'fortran_order': False, 'shape': (" + repeated("1,", n) + "), }";
                return shared_archive(1, "\x93NUMPY\x02" + std::string(1, '\0') + word(text.size(), 4) + text,
                                      0, 0);
            },
            read, {8});
}

std::string varint(size_t value) {
    std::string out;
    for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
    return out + static_cast<char>(value);
}
std::string field(int number, const std::string& bytes) {
    return std::string(1, static_cast<char>(number << 3 | 2)) + varint(bytes.size()) + bytes;
}

TEST_F(Attack, TokenizerModels) {
    const auto load = [](const std::string& path) { load_tokenizer(path); };
    const auto model = [&](const std::string& what, const std::function<std::string(size_t)>& make,
                           double factor) {
        measure("tokenizer: " + what, "tokenizer.model", make, load, {factor, 8}, 60 << 20);
    };
    model(
        "pieces",
        [](size_t n) {
            std::string bytes;
            for (int64_t i = 0; bytes.size() < n; ++i) bytes += field(1, field(1, std::to_string(i)));
            return bytes;
        },
        40);
    model(
        "equal pieces", [](size_t n) { return repeated(field(1, field(1, "a")), n); }, 40);
    model(
        "a long piece", [](size_t n) { return field(1, field(1, std::string(n, 'a'))); }, 6);
    model(
        "fields of the trainer", [](size_t n) { return field(2, repeated(std::string("\x0a\0", 2), n)); }, 4);
    model(
        "samples", [](size_t n) { return field(4, repeated(std::string("\x0a\0", 2), n)); }, 4);
    model(
        "groups", [](size_t n) { return std::string(n, '\x0b'); }, 4);
}

TEST_F(Attack, TokenShards) {
    measure(
        "Megatron index: empty documents", "a.idx",
        [](size_t n) {
            std::vector<int64_t> firsts(n / 20);
            std::iota(firsts.begin(), firsts.end(), int64_t{0});
            return test::megatron_index_bytes(std::vector<int32_t>(firsts.size() - 1), firsts, 8, 2);
        },
        [](const std::string& path) { read_megatron_index(path, 0, true); }, {2});
    DataMeta meta;
    meta.eos_id = 256;
    write_bytes(folder_.path() / kMetaFile, to_json(meta));
    for (const SequenceLayout layout : {SequenceLayout::kDocuments, SequenceLayout::kPad})
        measure(
            layout == SequenceLayout::kPad ? "shard: documents of two tokens" : "shard: empty documents",
            "b.bin",
            [&](size_t n) {
                return repeated(
                    layout == SequenceLayout::kPad ? std::string("\1\0\0\1", 4) : std::string("\0\1", 2), n);
            },
            [&](const std::string& path) { TokenLoader(path, 64, 300, 1, layout); }, {60});
}

TEST_F(Attack, TokenizerJson) {
    std::string bytes = "\"ab\":256";
    for (int byte = 0; byte < 256; ++byte)
        bytes +=
            fmt::format(",{}:{}", nlohmann::json(character_of_byte(static_cast<uint8_t>(byte))).dump(), byte);
    // `piece` over and over, with the next id from 257 for each '#'.
    const auto numbered = [](std::string_view piece, size_t n) {
        std::string text;
        for (int64_t id = 257; text.size() < n; ++id)
            for (const char c : piece) c == '#' ? (void)(text += std::to_string(id)) : text.push_back(c);
        return text;
    };
    const auto attack = [&](const std::string& what, const std::string& before, const std::string& piece,
                            const std::string& after, double factor) {
        measure(
            "tokenizer.json: " + what, "tokenizer.json",
            [=](size_t n) {
                return fmt::format(R"({{"pre_tokenizer":{{"type":"ByteLevel"}},"model":{{"vocab":{{{}{}{}{})",
                                   bytes, before, numbered(piece, n), after);
            },
            [](const std::string& path) { load_tokenizer(path); }, {factor, 16}, 15 << 20);
    };
    write_bytes(folder_.path() / "tokenizer_config.json", R"({"eos_token":"a"})");
    const std::string merges = R"(},"merges":[)", no_merges = merges + "]}",
                      added = no_merges + R"(,"added_tokens":[)";
    attack("tokens", "", ",\"#\":#", no_merges + "}", 24);
    attack("equal tokens", "", ",\"ab\":0", no_merges + "}", 14);
    attack("merges", merges + "\"a b\"", ",\"a b\"", "]}}", 16);
    attack("lists of merges", merges + "\"a b\"", R"(,["a","b"])", "]}}", 16);
    attack("empty lists", merges + "[]", ",[]", "]}}", 14);
    attack("a long merge", merges + "\"", "a", "\"]}}", 6);
    attack("depth", merges, "[", "]}}", 14);
    attack("added tokens", added + R"({"content":"ab","id":256})", R"(,{"content":"t#","id":#})", "]}", 14);
    attack("a long added token", added + R"({"content":")", "a", R"(","id":257}]})", 10);
    const auto tokenizer = load_tokenizer(test::source_file("tests/golden/tokenizers/llama3"));
    const auto encode = [&](const std::string& what, const std::string& piece) {
        measure(
            "byte-level BPE: " + what, "a.txt", [=](size_t n) { return repeated(piece, n); },
            [&](const std::string& path) { tokenizer->encode(test::read_bytes(path)); }, {14, 16});
    };
    encode("one word", "theandof");
    encode("one letter", "a");
    encode("spaces", " ");
    encode("line breaks and spaces", "\n  ");
    encode("the start of an added token", "<|eot_");
    encode("punctuation", "!");
}

TEST_F(Attack, Corpora) {
    const auto read = [](const std::string& path) {
        CorpusReader reader({path}, {});
        DocumentParser parser({});
        RawDocuments batch;
        while (reader.next(batch, 256 << 10))
            for (const RawDocuments::Span& raw : batch.documents) parser.parse(batch, raw);
    };
    const auto lines = [&](const std::string& what, const std::string& begin, const std::string& piece,
                           const std::string& end) {
        measure("JSON line: " + what, "a.jsonl", [=](size_t n) { return json_list(begin, piece, n, end); },
                read, {6, 24});
    };
    lines("text", R"({"text":")", "a", "\"}");
    lines("escapes", R"({"text":")", "\\u00e9", "\"}");
    lines("lists", R"({"a":[)", "[],", R"(],"text":""})");
    lines("keys", "{", R"("#":"",)", R"(,"text":""})");
    lines("depth", R"({"text":"","a":)", "[", "}");
    measure("text: not UTF-8", "a.txt", [](size_t n) { return std::string(n, '\xff'); }, read, {9, 8});
    measure("text: separators", "a.txt", [](size_t n) { return repeated("<|doc|>\n", n); }, read, {2, 12});
    measure(
        "gzip: zeros", "a.txt.gz", [](size_t n) { return test::gzip(repeated("\n<|doc|>\n", n * 20)); }, read,
        {2, 24}, 4 << 20);
}

TEST_F(Attack, AWordWithoutABlank) {
    uint64_t story = 0;
    const auto tokenizer = sentencepiece_tokenizer(train_tokenizer(400,
                                                                   [&](std::string& text) {
                                                                       text = synthetic_story(1, story);
                                                                       return story++ < 30;
                                                                   }),
                                                   "model");
    measure(
        "SentencePiece: one word", "a.txt",
        [](size_t n) {
            SplitMix random(1);
            std::string text(n, 'a');
            for (char& c : text) c = static_cast<char>('a' + random.below(26));
            return text;
        },
        [&](const std::string& path) { tokenizer->encode(test::read_bytes(path)); }, {16, 24});
}

TEST_F(Attack, Recipes) {
    const auto read = [](const std::string& path) { load_config(path, {}); };
    for (const char* piece : {"[],", "1,", "{},", "\"\","})
        measure(fmt::format("recipe: {}", piece), "a.toml",
                [=](size_t n) { return json_list("[data]\na = [", piece, n, "]\n"); }, read, {1.5, 40});
    measure("recipe: keys", "a.toml", [](size_t n) { return "[data]\n" + repeated("a# = 1\n", n); }, read,
            {1.5, 40});
    measure("recipe: depth", "a.toml", [](size_t n) { return "a = " + std::string(n, '['); }, read,
            {1.5, 40});
}

}  // namespace
}  // namespace pastur
