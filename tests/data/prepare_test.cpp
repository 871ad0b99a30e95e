// `data prepare` from end to end: what it reads and what it writes.
#include "data/prepare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "data/inspect.h"
#include "data/loader.h"
#include "data/synth/synth.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/data/prepare_fixture.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_bytes;
using test::write_bytes;

using Prepare = test::PrepareFixture;

TEST_F(Prepare, WritesBytesOfTextByHand) {
    options_.val_fraction = 0;
    const PrepareResult result = run(put("a.txt", "hi\n<|doc|>\n\xc3\xa9!\n"));
    const auto written = files();
    ASSERT_EQ(written.size(), 2u);
    EXPECT_EQ(written.at("train_000000.bin"),
              test::shard_bytes<uint16_t>({'h', 'i', 256, 0xc3, 0xa9, '!', 256}));
    EXPECT_EQ(result.meta.train.documents, 2);
    EXPECT_EQ(result.meta.train.tokens, 7);
    EXPECT_EQ(result.meta.train.bytes, 5);
    EXPECT_EQ(result.meta.train.shortest, 3);
    EXPECT_EQ(result.meta.train.longest, 4);
    EXPECT_EQ(result.meta.val.documents, 0);
    // 256 twice among seven, five others once.
    EXPECT_NEAR(result.meta.train.unigram_entropy, 2. / 7 * std::log(7. / 2) + 5. / 7 * std::log(7.), 1e-12);
    EXPECT_TRUE(result.notes.empty());
}

TEST_F(Prepare, MetaSurvivesTheFile) {
    options_.val_fraction = 0.1;
    const DataMeta written = run(put_stories(50)).meta;
    const DataMeta read = read_meta(options_.out);
    EXPECT_EQ(to_json(read), to_json(written));
    EXPECT_EQ(read.tokenizer, "bytes");
    EXPECT_EQ(read.vocab_size, 257);
    EXPECT_GT(read.val.unigram_entropy, 2);
    EXPECT_EQ(read.train.fingerprint, TokenLoader(glob("train"), 8, 257, 1).fingerprint());
    EXPECT_EQ(read.val.fingerprint, TokenLoader(glob("val"), 8, 257, 1).fingerprint());
    expect_error(ExitCode::kMissingInput, {"meta.json"}, [&] { read_meta(folder_.path()); });
    for (const char* damaged : {"", "{}", "[1]", "{\"format\": \"pastur.data\", \"version\": 1}", "\xff"}) {
        write_bytes(options_.out / "meta.json", damaged);
        expect_error(ExitCode::kCorruptData, {"meta.json"}, [&] { read_meta(options_.out); });
    }
}

// Earlier versions wrote a fingerprint that depended on the names of the shards.
TEST_F(Prepare, ReadsFoldersOfVersion1) {
    run(put_stories(50));
    std::string text = test::read_bytes(options_.out / "meta.json");
    const auto replace = [&](const std::string& old, const std::string& by) {
        const size_t at = text.find(old);
        ASSERT_NE(at, text.npos) << old;
        text.replace(at, old.size(), by);
    };
    replace("\"version\": 2", "\"version\": 1");
    replace("\"fingerprint\": \"", "\"fingerprint\": \"0");
    write_bytes(options_.out / "meta.json", text);
    EXPECT_FALSE(read_meta(options_.out).train.fingerprint);
    EXPECT_GT(TokenLoader(glob("train"), 8, 257, 1).tokens(), 0);
    replace("\"tokens\": ", "\"tokens\": 1");
    write_bytes(options_.out / "meta.json", text);
    expect_error(ExitCode::kCorruptData, {"not those that meta.json describes"},
                 [&] { TokenLoader(glob("train"), 8, 257, 1); });
}

TEST_F(Prepare, DecodesToTheDocuments) {
    for (const std::string tokenizer : {"bytes", "train:400"}) {
        options_.tokenizer = tokenizer;
        options_.val_fraction = 0.2;
        run_again(put_stories(40));
        const auto loaded = load_tokenizer(options_.out);
        std::multiset<std::string> expected, got;
        for (uint64_t i = 0; i < 40; ++i) expected.insert(synthetic_story(11, i));
        for (const std::string split : {"train", "val"}) {
            std::vector<int32_t> document;
            for (const int32_t id : tokens(split)) {
                document.push_back(id);
                if (id != loaded->eos_id()) continue;
                got.insert(loaded->decode(document));
                document.clear();
            }
            EXPECT_TRUE(document.empty()) << "no EOS at the end";
        }
        EXPECT_EQ(got, expected);
    }
}

TEST_F(Prepare, DoesNotDependOnThreads) {
    const std::string input = put_stories(2000);
    options_.tokenizer = "train:500";
    options_.shard_tokens = 50'000;
    options_.threads = 1;
    run(input);
    const auto with_one = files();
    EXPECT_GT(with_one.size(), 10u);
    options_.threads = 5;
    run_again(input);
    EXPECT_EQ(files(), with_one);
    const TokenLoader loader(glob("train"), 64, 500, 1);
    EXPECT_EQ(loader.tokens(), read_meta(options_.out).train.tokens) << "the shards hold the stream";
}

TEST_F(Prepare, FormOfTheInputDoesNotMatter) {
    std::string json;
    for (uint64_t i = 0; i < 300; ++i) {
        json += "{\"text\":\"";
        for (const char c : synthetic_story(11, i))
            json += c == '\n' ? "\\n" : c == '"' ? "\\\"" : std::string(1, c);
        json += "\"}\n";
    }
    const std::string plain = put_stories(300);
    const std::string text = read_bytes(plain);
    run(plain);
    const auto expected = files();
    for (const std::string& other :
         {put("a.txt.gz", test::gzip(text)), put("a.txt.zst", test::zstd(text)), put("a.jsonl", json),
          put("b.json.gz", test::gzip(json)), put("b.ndjson.zst", test::zstd(json)), put("c.txt", json)}) {
        run_again(other);
        EXPECT_EQ(files(), expected) << other;
    }
}

TEST_F(Prepare, CountsRepairedDocuments) {
    const PrepareResult result = run(put("a.txt",
                                         "good\n<|doc|>\nb\xff"
                                         "d\n<|doc|>\nfine\n"));
    EXPECT_EQ(result.meta.repaired_documents, 1);
    ASSERT_FALSE(result.notes.empty());
    EXPECT_NE(result.notes.back().find("U+FFFD: 1"), std::string::npos);
}

TEST_F(Prepare, TakesATokenizerThatExists) {
    options_.tokenizer = "train:400";
    run(put_stories(40));
    const auto trained = files();
    options_.tokenizer = put("copy.model", trained.at("tokenizer.model"));
    run_again(put_stories(40));
    EXPECT_EQ(files(), trained);
    options_.tokenizer = options_.out;
    options_.out = folder_.path() / "second";
    run_again(put_stories(40));
    EXPECT_EQ(files(), trained);
}

TEST_F(Prepare, SkipsBadLinesUpToALimit) {
    std::string json;
    for (int i = 1; i <= 1000; ++i)
        json += i % 400 ? "{\"text\": \"line " + std::to_string(i) + "\"}\n" : "{\"text\": null}\n";
    const std::string input = put("a.jsonl", json);
    for (const std::string tokenizer : {"bytes", "train:280"}) {
        options_.tokenizer = tokenizer;
        options_.skip_bad = 0;
        expect_error(ExitCode::kCorruptData, {"a.jsonl:400:", "\"text\""}, [&] { run_again(input); });
        options_.skip_bad = 1;
        expect_error(ExitCode::kCorruptData, {"a.jsonl:800:", "more than --skip-bad 1", "a.jsonl:400:"},
                     [&] { run_again(input); });
        options_.skip_bad = 2;
        const PrepareResult result = run_again(input);
        EXPECT_EQ(result.meta.train.documents + result.meta.val.documents, 998);
        EXPECT_EQ(result.meta.skipped_lines, 2);
        EXPECT_EQ(read_meta(options_.out).skipped_lines, 2);
        ASSERT_FALSE(result.notes.empty());
        EXPECT_NE(result.notes.back().find("2; the first: " + input + ":400:"), std::string::npos)
            << result.notes.back();
    }
}

TEST_F(Prepare, ShowsTheFirstDocument) {
    options_.val_fraction = 0;
    EXPECT_EQ(run(put("a.txt", "caf\u00e9\n<|doc|>\ntwo\n")).sample, "caf\u00e9");
    EXPECT_EQ(run_again(put("a.jsonl", "{\"text\": \"one \\ud83d\\ude00\"}\n")).sample, "one \U0001F600");
    EXPECT_EQ(run_again(put("a.txt", std::string(500, 'x'))).sample, std::string(160, 'x') + "...");
    options_.tokenizer = "train:400";
    const std::string story = synthetic_story(11, 0);
    EXPECT_TRUE(run_again(put_stories(40)).sample.starts_with(story.substr(0, 100)));
}

TEST_F(Prepare, TrainsOnAPartOfEveryFileAndNotOnValidation) {
    // A word that only validation documents hold must not become a piece.
    options_.val_fraction = 0.5;
    std::string text;
    for (int i = 0; i < 400; ++i) text += "xylophone" + std::to_string(i) + " plays\n<|doc|>\n";
    options_.tokenizer = "bytes";
    run(put("a.txt", text));
    const std::string val = byte_tokenizer()->decode(tokens("val"));
    std::string marked;  // the same texts are held out again
    for (int i = 0; i < 400; ++i) {
        const std::string document = "xylophone" + std::to_string(i) + " plays";
        if (val.find(document) != std::string::npos) marked += document + "\n<|doc|>\n";
    }
    std::string training;
    for (int i = 0; i < 400; ++i) training += "bassoon number " + std::to_string(i) + "\n<|doc|>\n";
    options_.tokenizer = "train:300";
    run_again(put("a.txt", marked + training));
    const auto tokenizer = load_tokenizer(options_.out);
    EXPECT_GT(tokenizer->encode("xylophone").size(), 7u) << "learned from held-out documents";
    EXPECT_LE(tokenizer->encode("bassoon").size(), 3u);
}

TEST_F(Prepare, InspectsBareShards) {
    write_bytes(folder_.path() / "fineweb_val_000000.bin", test::shard_bytes<uint16_t>({1, 2, 3, 3}));
    write_bytes(folder_.path() / "fineweb_train_000001.bin", test::shard_bytes<uint16_t>({7, 7}));
    write_bytes(folder_.path() / "fineweb_train_000002.bin", test::shard_bytes<uint16_t>({50256}));
    const std::vector<ShardGroup> groups = inspect_shards(folder_.path(), 10);
    ASSERT_EQ(groups.size(), 2u);
    EXPECT_EQ(groups[0].name, "fineweb_train");
    EXPECT_EQ(groups[0].shards, 2);
    EXPECT_EQ(groups[0].tokens, 3);
    EXPECT_EQ(groups[0].largest_id, 50256);
    EXPECT_EQ(groups[0].distinct_ids, 2);
    EXPECT_EQ(groups[0].head, (std::vector<int32_t>{7, 7, 50256}));
    EXPECT_NEAR(groups[1].unigram_entropy, 1.5 * std::log(2), 1e-12);
    expect_error(ExitCode::kMissingInput, {"none"}, [&] { inspect_shards(folder_.path() / "none*", 1); });
}

}  // namespace
}  // namespace pastur
