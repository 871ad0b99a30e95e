// Bytes from outside, damaged in a few thousand ways: the outcome is a result or an Error, never a crash, an
// endless loop or much memory. Most useful under -fsanitize=address,undefined.
#include "tests/support/fuzz.h"
#include "data/corpus/corpus.h"
#include "data/corpus/utf8.h"
#include "data/inspect.h"
#include "data/loader.h"
#include "data/meta.h"
#include "data/shards/megatron_index.h"
#include "data/synth/synth.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "tests/support/data_files.h"

namespace pastur {
namespace {

using test::Fuzz;
using test::mutate;
using test::resident_mib;
using test::write_bytes;

void read_documents_as(const std::string& path, DocumentFormat format) {
    CorpusReader reader({path}, {.format = format});
    DocumentParser parser({});
    RawDocuments batch;
    size_t total = 0;
    while (reader.next(batch, 4096))
        for (const RawDocuments::Span& raw : batch.documents) total += parser.parse(batch, raw).text.size();
    EXPECT_LT(total, 100u << 20);
}
void read_documents(const std::string& path) {
    read_documents_as(path, DocumentFormat::kAuto);
}

std::string stories() {
    std::string text;
    for (uint64_t i = 0; i < 8; ++i) text += synthetic_story(1, i) + "\n<|doc|>\n";
    return text;
}

std::string json_lines() {
    return "{\"text\":\"one \\u00e9\\ud83d\\ude00 \\n\", \"id\": 1}\n{\"id\": [1, {\"a\": null}, true, "
           "-1.5e300], "
           "\"text\": \"two\"}\n\n{\"text\": \"" +
           std::string(3000, 'x') + "\"}\n";
}

TEST_F(Fuzz, Shards) {
    std::vector<uint16_t> narrow(500);
    std::vector<uint32_t> wide(300);
    for (size_t i = 0; i < narrow.size(); ++i) narrow[i] = static_cast<uint16_t>(i % 256);
    for (size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<uint32_t>(70000 + i);
    mutate_and_read("a.bin", {test::shard_bytes(narrow), test::shard_bytes(wide)}, 600,
                    [](const std::string& path) {
                        inspect_shards(path, 20);
                        const TokenLoader loader(path, 16, 70300, 1);
                        std::vector<int32_t> out(17);
                        for (int64_t i = 0; i < loader.sequences(); ++i) {
                            loader.sample(i, out);
                            for (const int32_t id : out) ASSERT_TRUE(id >= 0 && id < 70300);
                        }
                    });
}

// Most mutations miss the header of a shard; these change nothing else.
TEST_F(Fuzz, ShardHeaders) {
    const std::string good = test::shard_bytes(std::vector<uint16_t>(40, 1));
    SplitMix random(7);
    for (int i = 0; i < 500; ++i) {
        std::string bytes = good;
        for (int j = 0; j < 2; ++j) bytes[random.below(12)] = static_cast<char>(random.below(256));
        bytes.resize(random.chance(50) ? bytes.size() : random.below(bytes.size()));
        write_bytes(folder_.path() / "a.bin", bytes);
        try {
            EXPECT_EQ(TokenLoader(folder_.path() / "a.bin", 4, 10, 1).tokens(), 40);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::kCorruptData) << error.what();
        }
    }
}

std::string tokens_of(const std::string& index) {
    return index.substr(0, index.size() - 4) + ".bin";
}

// The tokens stay, and their index is damaged.
TEST_F(Fuzz, ShardIndex) {
    std::vector<int32_t> lengths(300), tokens;
    std::vector<int64_t> firsts{0};
    for (size_t i = 0; i < lengths.size(); ++i) {
        lengths[i] = static_cast<int32_t>(i * i % 41);
        if (i % 3 == 2) firsts.push_back(static_cast<int64_t>(i + 1));
        tokens.insert(tokens.end(), static_cast<size_t>(lengths[i]), static_cast<int32_t>(i));
    }
    write_bytes(folder_.path() / "a.bin", test::bytes_of(tokens));
    mutate_and_read("a.idx",
                    {test::megatron_index_bytes(lengths, firsts, 4, 4),
                     test::megatron_index_bytes({2 * static_cast<int32_t>(tokens.size())}, {0, 1}, 8, 2)},
                    500, [](const std::string& path) {
                        const MegatronIndex index = read_megatron_index(
                            path, static_cast<int64_t>(std::filesystem::file_size(tokens_of(path))), true);
                        ASSERT_TRUE(std::is_sorted(index.document_ends.begin(), index.document_ends.end()));
                        if (!index.document_ends.empty()) {
                            ASSERT_EQ(index.document_ends.back(), index.tokens);
                        }
                        const TokenLoader loader(path, 16, 1 << 16, 1, SequenceLayout::kDocuments);
                        std::vector<int32_t> out(17);
                        for (int64_t i = 0; i < loader.sequences(); ++i) loader.sample(i, out);
                    });
}

TEST_F(Fuzz, ShardsWithoutAHeader) {
    std::vector<uint16_t> ids(600);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint16_t>(i * 97 % 5000);
    mutate_and_read("a.bin", {test::bytes_of(ids)}, 500, [](const std::string& path) {
        inspect_shards(path, 20);
        const TokenLoader loader(path, 16, 5000, 1);
        std::vector<int32_t> out(17);
        for (int64_t i = 0; i < loader.sequences(); ++i) {
            loader.sample(i, out);
            for (const int32_t id : out) ASSERT_TRUE(id >= 0 && id < 5000);
        }
    });
}

TEST_F(Fuzz, JsonLines) {
    mutate_and_read("a.jsonl", {json_lines()}, 800, read_documents);
}

TEST_F(Fuzz, Gzip) {
    mutate_and_read("a.txt.gz", {test::gzip(stories()), test::gzip("x") + test::gzip(stories())}, 400,
                    read_documents);
    mutate_and_read("b.jsonl.gz", {test::gzip(json_lines())}, 300, read_documents);
}

TEST_F(Fuzz, Zstandard) {
    mutate_and_read("a.txt.zst", {test::zstd(stories()), test::zstd("x") + test::zstd(stories())}, 400,
                    read_documents);
    mutate_and_read("b.jsonl.zst", {test::zstd(json_lines())}, 300, read_documents);
}

TEST_F(Fuzz, Meta) {
    DataMeta meta;
    meta.tokenizer = "bytes";
    meta.vocab_size = 257;
    mutate_and_read("meta.json", {to_json(meta)}, 800,
                    [](const std::string& path) { read_meta(std::filesystem::path(path).parent_path()); });
}

// Text given as text is never refused: any bytes become valid UTF-8.
TEST_F(Fuzz, TextIsAlwaysRepaired) {
    SplitMix random(5);
    for (int i = 0; i < 2000; ++i) {
        std::string bytes;
        const size_t length = random.below(40);
        while (bytes.size() < length)
            bytes += "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff\xed\n"[random.below(14)];
        const std::string repaired = repair_utf8(bytes);
        EXPECT_EQ(repair_utf8(repaired), repaired);
        write_bytes(folder_.path() / "a.txt", bytes);
        EXPECT_NO_THROW(read_documents_as(folder_.path() / "a.txt", DocumentFormat::kText));
    }
}

// A small file that expands a thousandfold is read through small buffers.
TEST_F(Fuzz, BombsStayInBounds) {
    const int64_t before = resident_mib();
    const std::string line = std::string(1 << 20, 'a');
    for (const bool gz : {true, false}) {
        std::string bytes;
        for (int i = 0; i < 300; ++i) bytes += gz ? test::gzip(line) : test::zstd(line);
        const std::string path = folder_.path() / (gz ? "bomb.jsonl.gz" : "bomb.jsonl.zst");
        write_bytes(path, bytes);
        try {
            read_documents(path);
            ADD_FAILURE() << "a line of 300 MiB was accepted";
        } catch (const Error& error) {
            EXPECT_NE(std::string(error.what()).find("larger than 256 MiB"), std::string::npos)
                << error.what();
        }
    }
    EXPECT_LT(resident_mib() - before, 1200);
}

TEST_F(Fuzz, SentencePieceSpec) {
    SplitMix random(9);
    const std::string good(
        "\x0a\x05\x0a\x03"
        "abc"
        "\x12\x03\xc0\x01\x01\x1a\x06\x18\x00\x20\x01\x28\x00",
        20);
    for (int i = 0; i < 3000; ++i) read_sentencepiece_spec(mutate(good, random));
    const SentencePieceSpec spec = read_sentencepiece_spec(good);
    EXPECT_TRUE(spec.whitespace_as_suffix);
    EXPECT_FALSE(spec.add_dummy_prefix);
    EXPECT_TRUE(spec.remove_extra_whitespaces);
    EXPECT_FALSE(spec.escape_whitespaces);
}

}  // namespace
}  // namespace pastur
