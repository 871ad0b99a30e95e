// Files made to cost much for the parsers of the engine and the tools (tests/support/attack.h).
#include "tests/support/attack.h"

#include "data/meta.h"
#include "diag/npz_reader.h"
#include "engine/io/json_text.h"
#include "engine/io/manifest.h"
#include "engine/io/safetensors.h"
#include "engine/model/recipe.h"
#include "engine/train/checkpoint/model_folder.h"
#include "engine/train/scoring/choice_file.h"
#include "kernels/base/random.h"
#include "tests/support/sample_run.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Attack;
using test::json_list;
using test::repeated;
using test::write_bytes;

std::string word(uint64_t value, int bytes) {
    return std::string(reinterpret_cast<const char*>(&value), static_cast<size_t>(bytes));
}
std::string safetensors(const std::string& header) {
    return word(header.size(), 8) + header;
}

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
