// Token shards and the loader: format, order, borders, damaged shards.
#include "data/loader.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "data/shards/shard.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using test::expect_error;
using test::shard_bytes;
using test::write_bytes;

/// first, first + 1, ...
template <typename T>
std::vector<T> counting(size_t n, int64_t first = 0) {
    std::vector<T> values(n);
    std::iota(values.begin(), values.end(), static_cast<T>(first));
    return values;
}

class Loader : public testing::Test {
  protected:
    std::string path(const std::string& name) const { return folder_.path() / name; }
    std::string glob() const { return path("train_*.bin"); }
    template <typename T>
    void put(const std::string& name, const std::vector<T>& tokens) {
        write_bytes(path(name), shard_bytes(tokens));
    }
    /// 0 1 2 ... over three shards of awkward lengths, one of them empty.
    void put_counting_stream(int64_t total) {
        const std::vector<uint16_t> all = counting<uint16_t>(static_cast<size_t>(total));
        put<uint16_t>("train_000000.bin", {all.begin(), all.begin() + 7});
        put<uint16_t>("train_000001.bin", {});
        put<uint16_t>("train_000002.bin", {all.begin() + 7, all.begin() + 10});
        put<uint16_t>("train_000003.bin", {all.begin() + 10, all.end()});
    }
    test::TempFolder folder_;
};

TEST_F(Loader, ReadsSequencesAcrossShardBorders) {
    put_counting_stream(103);
    const TokenLoader loader(glob(), 5, 1000, 1);
    EXPECT_EQ(loader.tokens(), 103);
    EXPECT_EQ(loader.sequences(), 20);  // (103 - 1) / 5
    std::vector<int32_t> out(6);
    for (int64_t i = 0; i < loader.sequences(); ++i) {
        loader.sequence(i, out);
        EXPECT_EQ(out, counting<int32_t>(6, 5 * i));
    }
}

TEST_F(Loader, ReadsOneSequenceThatSpansAllShards) {
    put_counting_stream(30);
    const TokenLoader loader(glob(), 29, 1000, 1);
    std::vector<int32_t> out(30);
    loader.sample(0, out);
    EXPECT_EQ(out, counting<int32_t>(30));
}

TEST_F(Loader, VisitsEverySequenceOnceAnEpoch) {
    put_counting_stream(1001);
    const TokenLoader loader(glob(), 10, 2000, 42);
    ASSERT_EQ(loader.sequences(), 100);
    std::vector<std::vector<int32_t>> orders(3);
    std::vector<int32_t> out(11);
    for (int64_t sample = 0; sample < 300; ++sample) {
        loader.sample(sample, out);
        EXPECT_EQ(out, counting<int32_t>(11, out[0])) << "not consecutive tokens";
        EXPECT_EQ(out[0] % 10, 0);
        orders[sample / 100].push_back(out[0] / 10);
    }
    for (const auto& order : orders)
        EXPECT_EQ(std::set<int32_t>(order.begin(), order.end()).size(), 100u) << "a sequence was left out";
    EXPECT_NE(orders[0], orders[1]);
    EXPECT_NE(orders[1], orders[2]);
}

TEST_F(Loader, OrderIsAFunctionOfTheSeed) {
    put_counting_stream(1001);
    const auto first_tokens = [&](uint64_t seed) {
        const TokenLoader loader(glob(), 10, 2000, seed);
        std::vector<int32_t> firsts, out(11);
        for (int64_t sample = 0; sample < 100; ++sample) {
            loader.sample(sample, out);
            firsts.push_back(out[0]);
        }
        return firsts;
    };
    EXPECT_EQ(first_tokens(1), first_tokens(1));
    EXPECT_NE(first_tokens(1), first_tokens(2));
}

TEST_F(Loader, MapsUint32Shards) {
    const std::vector<uint32_t> tokens = {5, 70000, 128255, 1, 99999};
    put("train_000000.bin", tokens);
    const TokenLoader loader(glob(), 4, 128256, 1);
    std::vector<int32_t> out(5);
    loader.sequence(0, out);
    EXPECT_EQ(out, (std::vector<int32_t>{5, 70000, 128255, 1, 99999}));
}

TEST_F(Loader, FingerprintIsOfTheTokensInTheirOrder) {
    const auto fingerprint = [&] { return TokenLoader(glob(), 5, 2000, 1).fingerprint(); };
    put_counting_stream(103);
    const uint64_t before = fingerprint();
    EXPECT_EQ(fingerprint(), before);
    EXPECT_EQ(TokenLoader(glob(), 9, 2000, 77).fingerprint(), before) << "depends on more than the data";
    put<uint16_t>("train_000003.bin", counting<uint16_t>(93, 11));
    const uint64_t other_tokens = fingerprint();
    EXPECT_NE(other_tokens, before);
    std::filesystem::rename(path("train_000003.bin"), path("train_000004.bin"));
    EXPECT_EQ(fingerprint(), other_tokens) << "a name is no data";
    std::filesystem::rename(path("train_000004.bin"), path("train_.bin"));
    EXPECT_NE(fingerprint(), other_tokens) << "now the first shard";
}

// A step of 24 sequences in micro-batches of 4, read by 1, 2, 3 and 6 ranks for three steps.
TEST(SampleOfRank, AStepHoldsTheSameSamplesOnAnyNumberOfRanks) {
    constexpr int64_t kStep = 24, kMicroBatch = 4, kSteps = 3;
    for (const int64_t ranks : {1, 2, 3, 6}) {
        const int64_t per_rank = kStep / ranks;
        for (int64_t step = 0; step < kSteps; ++step) {
            std::set<int64_t> samples;
            for (int64_t rank = 0; rank < ranks; ++rank)
                for (int64_t i = step * per_rank; i < (step + 1) * per_rank; ++i)
                    samples.insert(sample_of_rank(i, rank, ranks, kMicroBatch));
            EXPECT_EQ(std::ssize(samples), kStep) << ranks << " ranks";
            EXPECT_EQ(*samples.begin(), step * kStep);
            EXPECT_EQ(*samples.rbegin(), (step + 1) * kStep - 1);
        }
    }
    // Rank 1 of 3 reads the micro-batches 1 and 4 of the samples 0 1 2 3 | 4 5 6 7 | 8 ...
    const std::vector<int64_t> expected = {4, 5, 6, 7, 16, 17, 18, 19};
    for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(sample_of_rank(i, 1, 3, 4), expected[static_cast<size_t>(i)]);
}

TEST_F(Loader, AFoldersNameIsNotAPattern) {
    std::filesystem::create_directory(folder_.path() / "tok[v2]");
    put("tok[v2]/train_000000.bin", counting<uint16_t>(9));
    put("tok[v2]/train_000001.bin", counting<uint16_t>(9));
    EXPECT_EQ(TokenLoader(shard_glob(path("tok[v2]"), "train"), 4, 10, 1).tokens(), 18);
    EXPECT_EQ(TokenLoader(shard_glob(path("tok[v2]/"), "train"), 4, 10, 1).tokens(), 18);
    EXPECT_EQ(TokenLoader(path("tok[v2]/train_000000.bin"), 4, 10, 1).tokens(), 9);
}

TEST_F(Loader, RefusesWhatIsNotThere) {
    expect_error(ExitCode::kMissingInput, {"no token shard", "train_*.bin"},
                 [&] { TokenLoader(glob(), 4, 10, 1); });
}

TEST_F(Loader, RefusesACorpusShorterThanASequence) {
    put<uint16_t>("train_000000.bin", counting<uint16_t>(5));
    EXPECT_EQ(TokenLoader(glob(), 4, 10, 1).sequences(), 1);
    expect_error(ExitCode::kCorruptData, {"5 tokens", "seq_len = 5", "6"},
                 [&] { TokenLoader(glob(), 5, 10, 1); });
}

TEST_F(Loader, RefusesDamagedShards) {
    const std::string good = shard_bytes(counting<uint16_t>(100));
    const auto refuses = [&](std::string bytes, std::initializer_list<std::string> parts) {
        write_bytes(path("train_000000.bin"), bytes);
        SCOPED_TRACE(*parts.begin());
        expect_error(ExitCode::kCorruptData, parts, [&] { TokenLoader(glob(), 4, 1000, 1); });
        expect_error(ExitCode::kCorruptData, {"train_000000.bin"}, [&] { TokenLoader(glob(), 4, 1000, 1); });
    };
    const auto with_word = [&](size_t index, int32_t value) {
        std::string bytes = good;
        bytes.replace(4 * index, 4, test::bytes_of<int32_t>({value}));
        return bytes;
    };
    refuses(good.substr(0, good.size() - 1), {"cut short", "1223", "1224"});
    refuses(good.substr(0, 1024), {"cut short", "1024 bytes", "1224"});
    refuses(good.substr(0, 1000), {"cut short", "1000 bytes"});
    refuses("", {"cut short", "0 bytes"});
    refuses(good + "x", {"bytes after the last token"});
    refuses(with_word(0, 12345), {"not a token shard", "magic 12345"});
    refuses(with_word(1, 2), {"shard version 2", "expected 1"});
    refuses(with_word(0, 20240801), {"shard version 1", "expected 7"});
    refuses(with_word(2, -1), {"-1 tokens"});
    refuses(with_word(2, INT32_MAX), {"cut short"});
}

TEST_F(Loader, RefusesIdsBeyondTheVocabulary) {
    std::vector<uint16_t> tokens = counting<uint16_t>(100);
    put("train_000000.bin", tokens);
    tokens[37] = 500;
    put("train_000001.bin", tokens);
    expect_error(ExitCode::kCorruptData,
                 {"train_000001.bin", "token 37", "id 500", "expected ids below model.vocab = 500"},
                 [&] { TokenLoader(glob(), 4, 500, 1); });
    EXPECT_EQ(TokenLoader(glob(), 4, 501, 1).tokens(), 200);
    // This id is negative as a signed number.
    put("train_000001.bin", std::vector<uint32_t>{1, 2, 0xffffffffu});
    expect_error(ExitCode::kCorruptData, {"token 2", "4294967295"}, [&] { TokenLoader(glob(), 4, 500, 1); });
}

TEST_F(Loader, RefusesAFolderNamedLikeAShard) {
    std::filesystem::create_directory(path("train_000000.bin"));
    expect_error(ExitCode::kCorruptData, {"not a regular file"}, [&] { TokenLoader(glob(), 4, 500, 1); });
}

TEST_F(Loader, WritesTheBytesOfTheFormat) {
    const std::vector<int32_t> tokens = {1, 2, 258, 65535, 0};
    ShardWriter writer(folder_.path(), "val", TokenWidth::kU16, 3);
    writer.write(std::span(tokens).first(1));
    writer.write(std::span(tokens).subspan(1));
    writer.finish();
    ASSERT_EQ(writer.paths(), (std::vector<std::string>{path("val_000000.bin"), path("val_000001.bin")}));
    const std::string first = test::read_bytes(path("val_000000.bin"));
    ASSERT_EQ(first.size(), 1024u + 6);
    EXPECT_EQ(first.substr(0, 12), std::string("\x88\xd8\x34\x01\x01\0\0\0\x03\0\0\0", 12));
    EXPECT_EQ(first.substr(12, 1012), std::string(1012, '\0'));
    EXPECT_EQ(first.substr(1024), std::string("\x01\0\x02\0\x02\x01", 6));
    EXPECT_EQ(test::read_bytes(path("val_000001.bin")), shard_bytes<uint16_t>({65535, 0}));

    ShardWriter wide(folder_.path(), "wide", width_for(65537), 10);
    wide.write(std::vector<int32_t>{65536, 1});
    wide.finish();
    const std::string bytes = test::read_bytes(path("wide_000000.bin"));
    EXPECT_EQ(bytes.substr(0, 12), std::string("\xa1\xd9\x34\x01\x07\0\0\0\x02\0\0\0", 12));
    EXPECT_EQ(bytes.substr(1024), std::string("\0\0\x01\0\x01\0\0\0", 8));
}

TEST_F(Loader, ReportsADiskThatIsFull) {
    ShardWriter writer(folder_.path(), "train", TokenWidth::kU16, 100);
    std::filesystem::create_symlink("/dev/full", path("train_000000.bin"));
    expect_error(ExitCode::kIo, {"cannot write", "No space left"}, [&] {
        writer.write(counting<int32_t>(10));
        writer.finish();
    });
}

}  // namespace
}  // namespace pastur
