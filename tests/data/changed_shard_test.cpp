// Shards that change after the loader has read them, and shards that are not those of their meta.json.
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "data/loader.h"
#include "data/shards/shard.h"
#include "tests/data/prepare_fixture.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::shard_bytes;
using test::write_bytes;

constexpr int64_t kHeader = 1024, kTokens = 30000;

class ChangedShard : public testing::Test {
  protected:
    ChangedShard() {
        std::vector<uint16_t> tokens(kTokens);
        std::iota(tokens.begin(), tokens.end(), uint16_t{0});
        good_ = shard_bytes(tokens);
        write_bytes(path_, good_);
    }
    /// Overwrites bytes in place, as the file's other readers see it.
    void overwrite(int64_t at, std::string_view bytes) {
        std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(at).write(bytes.data(), std::ssize(bytes));
        ASSERT_TRUE(file.flush());
    }
    int64_t first_token(const TokenLoader& loader, int64_t sequence) {
        std::vector<int32_t> out(11);
        loader.sequence(sequence, out);
        return out[0];
    }
    test::TempFolder folder_;
    const std::string path_ = folder_.path() / "train_000000.bin";
    std::string good_;
};

TEST_F(ChangedShard, ShorterIsAnErrorInsteadOfASignal) {
    const TokenLoader loader(path_, 10, kTokens, 1);
    EXPECT_EQ(first_token(loader, 2999 - 1), 29980);
    fs::resize_file(path_, kHeader + 40000);
    EXPECT_EQ(first_token(loader, 0), 0);
    expect_error(ExitCode::kCorruptData, {path_, "cut short while it was in use", "50176"},
                 [&] { first_token(loader, 2998); });
    fs::resize_file(path_, 0);
    expect_error(ExitCode::kCorruptData, {path_, "cut short"}, [&] { first_token(loader, 0); });
    write_bytes(path_, good_);
    EXPECT_EQ(first_token(loader, 2998), 29980) << "the same bytes are the same shard";
}

TEST_F(ChangedShard, OtherTokensAreNoticedWhereTheyAreRead) {
    const TokenLoader loader(path_, 10, kTokens, 1);
    overwrite(kHeader + 2 * 20005, std::string_view("\x07", 1));  // one bit of token 20005, still a valid id
    expect_error(ExitCode::kCorruptData, {path_, "changed while it was in use", "16384 to 24575"},
                 [&] { first_token(loader, 2000); });
    expect_error(ExitCode::kCorruptData, {"changed"},
                 [&] { first_token(loader, 1700); });  // of the same block
    EXPECT_EQ(first_token(loader, 100), 1000);
    overwrite(kHeader + 2 * 20005, good_.substr(kHeader + 2 * 20005, 1));
    EXPECT_EQ(first_token(loader, 2000), 20000);
}

TEST_F(ChangedShard, AnIdBeyondTheVocabularyIsRefusedEvenIfTheHashFits) {
    const std::vector<uint16_t> before = {1, 2, 3, 4, 5, 0, 63, 50, 72};
    const std::vector<uint16_t> after = {1, 2, 3, 500, 5, 6, 7, 2113, 0};  // found by search
    ASSERT_EQ(Shard::seal_of(std::as_bytes(std::span(before))),
              Shard::seal_of(std::as_bytes(std::span(after))));
    write_bytes(path_, shard_bytes(before));
    const TokenLoader loader(path_, 8, 100, 1);
    std::vector<int32_t> out(9);
    loader.sequence(0, out);
    overwrite(kHeader, test::bytes_of(after));
    expect_error(ExitCode::kCorruptData, {path_, "id 500", "100"}, [&] { loader.sequence(0, out); });
}

TEST_F(ChangedShard, AFileOfTheSameNameIsAnotherFile) {
    const TokenLoader loader(path_, 10, kTokens, 1);
    write_bytes(folder_.path() / "new", shard_bytes(std::vector<uint16_t>(kTokens, 7)));
    fs::rename(folder_.path() / "new", path_);
    EXPECT_EQ(first_token(loader, 1234), 12340) << "the loader reads the file that it opened";
    fs::remove(path_);
    EXPECT_EQ(first_token(loader, 1234), 12340);
}

TEST_F(ChangedShard, MoreShardsThanDescriptorsAreOpenedAgain) {
    const auto files = std::make_shared<OpenFiles>(2);
    std::vector<Shard> shards;
    for (int i = 0; i < 5; ++i) {
        const std::string path = folder_.path() / fmt::format("s{}.bin", i);
        write_bytes(path, shard_bytes(std::vector<uint16_t>(100, static_cast<uint16_t>(i))));
        shards.emplace_back(path, files);
    }
    scan_shards(shards, 10, 2);
    const auto read = [&](size_t s) {
        int32_t id = -1;
        shards[s].read(50, {&id, 1});
        return id;
    };
    std::vector<std::thread> threads;
    std::atomic<int> wrong = 0;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (size_t i = 0; i < 200; ++i)
                if (read((i * 3 + t) % 5) != static_cast<int32_t>((i * 3 + t) % 5)) ++wrong;
        });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
    read(3);
    read(4);  // now 0 is closed
    write_bytes(folder_.path() / "new", shard_bytes(std::vector<uint16_t>(100, 9)));
    fs::rename(folder_.path() / "new", shards[0].path());
    expect_error(ExitCode::kCorruptData, {"s0.bin", "changed"}, [&] { read(0); });
    fs::remove(shards[1].path());
    expect_error(ExitCode::kIo, {"s1.bin", "No such file"}, [&] { read(1); });
}

class PreparedSplit : public test::PrepareFixture {};

TEST_F(PreparedSplit, MustBeTheOneOfItsMetaJson) {
    options_.shard_tokens = 2000;
    options_.val_fraction = 0.2;
    run(put_stories(40));
    const auto load = [&](const std::string& glob) { return TokenLoader(glob, 8, 257, 1).tokens(); };
    const int64_t all = load(glob("train"));
    ASSERT_GT(all, 4000);
    const fs::path shard = options_.out / "train_000001.bin";
    const std::string good = test::read_bytes(shard);
    std::string flipped = good;
    flipped[kHeader + 600] = static_cast<char>(flipped[kHeader + 600] ^ 1);
    write_bytes(shard, flipped);
    expect_error(ExitCode::kCorruptData, {options_.out.string(), "train_*.bin", "meta.json"},
                 [&] { load(glob("train")); });
    EXPECT_EQ(load(shard), 2000) << "meta.json does not describe a shard alone";
    EXPECT_GT(load(glob("val")), 100);
    fs::remove(shard);
    expect_error(ExitCode::kCorruptData, {"meta.json", fmt::format("{} tokens", all)},
                 [&] { load(glob("train")); });
    fs::remove(options_.out / "meta.json");
    EXPECT_EQ(load(glob("train")), all - 2000);
}

}  // namespace
}  // namespace pastur
