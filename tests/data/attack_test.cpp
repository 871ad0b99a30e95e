// Files made to cost much for the parsers of the data room (tests/support/attack.h).
#include "tests/support/attack.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include "data/corpus/corpus.h"
#include "data/loader.h"
#include "data/meta.h"
#include "data/shards/megatron_index.h"
#include "data/synth/synth.h"
#include "data/tokenizer/byte_characters.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train_tokenizer.h"
#include "kernels/base/random.h"
#include "tests/support/source_folder.h"

namespace pastur {
namespace {

using test::Attack;
using test::json_list;
using test::repeated;
using test::write_bytes;

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

}  // namespace
}  // namespace pastur
