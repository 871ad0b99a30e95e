// `data prepare` from end to end: what lands in the folder, and that a failure leaves nothing behind.
#include "data/prepare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "data/inspect.h"
#include "data/loader.h"
#include "data/synth/synth.h"
#include "data/tokenizer.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_bytes;
using test::write_bytes;

class Prepare : public testing::Test {
  protected:
    Prepare() {
        options_.tokenizer = "bytes";
        options_.out = folder_.path() / "out";
        options_.threads = 2;
    }
    std::string put(const std::string& name, std::string_view bytes) {
        write_bytes(folder_.path() / name, bytes);
        return folder_.path() / name;
    }
    std::string put_stories(int n) {
        const fs::path path = folder_.path() / "stories.txt";
        write_synthetic_corpus(n, 11, path, [](int64_t, int64_t) {});
        return path;
    }
    PrepareResult run() {
        return prepare(options_, [](const PrepareProgress&) {});
    }
    PrepareResult run(const std::string& input) {
        options_.inputs = {input};
        return run();
    }
    PrepareResult run_again(const std::string& input) {
        options_.force = true;
        return run(input);
    }
    /// The folder's files, by name.
    std::map<std::string, std::string> files() const {
        std::map<std::string, std::string> all;
        for (const auto& entry : fs::directory_iterator(options_.out))
            all[entry.path().filename()] = read_bytes(entry.path());
        return all;
    }
    std::vector<int32_t> tokens(const std::string& split) const {
        return inspect_shards(options_.out / (split + "_*.bin"), 1 << 30).at(0).head;
    }
    std::string glob(const std::string& split) const { return options_.out / (split + "_*.bin"); }

    test::TempFolder folder_;
    PrepareOptions options_;
};

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

TEST_F(Prepare, DecodesToTheDocuments) {
    for (const std::string tokenizer : {"bytes", "train:400"}) {
        options_.tokenizer = tokenizer;
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
          put("b.jsonl.gz", test::gzip(json)), put("b.jsonl.zst", test::zstd(json))}) {
        run_again(other);
        EXPECT_EQ(files(), expected) << other;
    }
}

TEST_F(Prepare, SplitIsAFunctionOfTextAndSeed) {
    const std::string input = put_stories(1000);
    options_.val_fraction = 0.1;
    const DataMeta meta = run(input).meta;
    EXPECT_NEAR(static_cast<double>(meta.val.documents), 100, 50);  // standard deviation 9.5
    EXPECT_EQ(meta.train.documents + meta.val.documents, 1000);
    const auto before = files();

    // More documents do not move those that are there: the validation stream begins as before.
    run_again(put_stories(1200));
    const std::string longer = files().at("val_000000.bin").substr(1024);
    EXPECT_EQ(longer.substr(0, before.at("val_000000.bin").size() - 1024),
              before.at("val_000000.bin").substr(1024));

    options_.seed = 2;
    run_again(put_stories(1000));
    EXPECT_NE(files().at("val_000000.bin"), before.at("val_000000.bin"));
}

TEST_F(Prepare, EachSplitHasADocument) {
    options_.val_fraction = 1e-9;
    PrepareResult result = run(put("a.txt", "one\n<|doc|>\ntwo\n<|doc|>\nthree\n"));
    EXPECT_EQ(result.meta.train.documents, 2);
    EXPECT_EQ(tokens("val"), (std::vector<int32_t>{'t', 'h', 'r', 'e', 'e', 256}));
    ASSERT_EQ(result.notes.size(), 1u);
    EXPECT_NE(result.notes[0].find("last one was moved"), std::string::npos);

    options_.val_fraction = 1 - 1e-9;
    result = run_again(put("a.txt", "one\n<|doc|>\ntwo\n<|doc|>\nthree\n"));
    EXPECT_EQ(result.meta.val.documents, 2);
    EXPECT_EQ(tokens("train"), (std::vector<int32_t>{'t', 'h', 'r', 'e', 'e', 256}));
    EXPECT_EQ(result.notes.size(), 1u);

    result = run_again(put("a.txt", "only one"));
    EXPECT_EQ(result.meta.train.documents, 1);
    EXPECT_EQ(result.meta.val.documents, 0);
    EXPECT_EQ(result.notes.size(), 1u);
    EXPECT_FALSE(files().count("val_000000.bin"));

    options_.val_fraction = 0.5;  // in order, whatever is held back in between
    result = run_again(put_stories(50));
    EXPECT_TRUE(result.notes.empty());
    const auto tokenizer = byte_tokenizer();
    std::string train = tokenizer->decode(tokens("train")), val = tokenizer->decode(tokens("val"));
    for (uint64_t i = 0; i < 50; ++i) {
        const std::string story = synthetic_story(11, i);
        std::string& split = train.starts_with(story) ? train : val;
        ASSERT_TRUE(split.starts_with(story)) << "story " << i;
        split.erase(0, story.size());
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

TEST_F(Prepare, RefusesToReplaceUnlessForced) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    run(input);
    const auto before = files();
    expect_error(ExitCode::kUsage, {"out", "--force"}, [&] { run(put("b.txt", "three")); });
    EXPECT_EQ(files(), before);
    run_again(put("b.txt", "three\n<|doc|>\nfour"));
    EXPECT_NE(files(), before);
    // --force is for folders like this one, not for whatever a typo names.
    fs::create_directory(folder_.path() / "precious");
    put("precious/thesis.txt", "!");
    options_.out = folder_.path() / "precious";
    expect_error(ExitCode::kUsage, {"precious", "not replacing"}, [&] { run_again(input); });
    EXPECT_TRUE(fs::exists(folder_.path() / "precious/thesis.txt"));
}

TEST_F(Prepare, FailureLeavesNothing) {
    const auto leaves_nothing = [&](ExitCode code, std::initializer_list<std::string> parts,
                                    const std::string& input) {
        expect_error(code, parts, [&] { run(input); });
        EXPECT_FALSE(fs::exists(options_.out)) << *parts.begin();
        EXPECT_FALSE(fs::exists(options_.out.string() + ".partial")) << *parts.begin();
    };
    leaves_nothing(ExitCode::kMissingInput, {"nowhere"}, "nowhere.txt");
    leaves_nothing(ExitCode::kCorruptData, {"no document"}, put("empty.txt", ""));
    leaves_nothing(ExitCode::kCorruptData, {"no document"}, put("blank.txt", " \n\t\n<|doc|>\n\n"));
    std::string json;
    for (int i = 0; i < 100'000; ++i) json += "{\"text\": \"line\"}\n";
    leaves_nothing(ExitCode::kCorruptData, {"bad.jsonl:100001"}, put("bad.jsonl", json + "{\"text\": 1}\n"));
    const std::string good = put("good.txt", "one\n<|doc|>\ntwo");
    options_.tokenizer = "nowhere.model";
    leaves_nothing(ExitCode::kMissingInput, {"nowhere.model", "train:VOCAB"}, good);
    for (const char* bad : {"train:", "train:x", "train:12x", "train:-5", "train:0"}) {
        options_.tokenizer = bad;
        leaves_nothing(ExitCode::kUsage, {bad, "VOCAB"}, good);
    }
    options_.tokenizer = "train:9000";
    leaves_nothing(ExitCode::kUsage, {"9000"}, good);
    options_.tokenizer = "bytes";
    for (const double fraction : {-0.1, 1.0, std::nan("")}) {
        options_.val_fraction = fraction;
        leaves_nothing(ExitCode::kUsage, {"--val-fraction"}, good);
    }
    options_.val_fraction = 0;
    options_.shard_tokens = 0;
    leaves_nothing(ExitCode::kUsage, {"--shard-tokens"}, good);
}

TEST_F(Prepare, ReplacesWhatAnInterruptedRunLeft) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    fs::create_directory(options_.out.string() + ".partial");
    write_bytes(options_.out.string() + ".partial/train_000007.bin", "half a shard");
    run(input);
    EXPECT_FALSE(files().count("train_000007.bin"));
    EXPECT_FALSE(fs::exists(options_.out.string() + ".partial"));
}

TEST_F(Prepare, OutputWithATrailingSlash) {
    options_.out = folder_.path().string() + "/deep/er/out/";
    run(put("a.txt", "one\n<|doc|>\ntwo\n"));
    EXPECT_EQ(read_meta(folder_.path() / "deep/er/out").train.documents, 1);
}

TEST_F(Prepare, TrainsOnAPartOfEveryFileAndNotOnValidation) {
    // A word that only validation documents hold must not become a piece.
    options_.val_fraction = 0.5;
    std::string text;
    for (int i = 0; i < 400; ++i) text += "xylophone" + std::to_string(i) + " plays\n<|doc|>\n";
    options_.tokenizer = "bytes";
    run(put("a.txt", text));
    const std::string val = byte_tokenizer()->decode(tokens("val"));
    std::string marked;  // the same split is drawn again for texts that are the same
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
