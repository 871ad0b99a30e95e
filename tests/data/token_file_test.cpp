// Token files of other programs: nanoGPT's without a header and Megatron's pairs, and what must not be taken for them.
#include <gtest/gtest.h>

#include <numeric>

#include "data/inspect.h"
#include "data/loader.h"
#include "data/shards/megatron_index.h"
#include "data/shards/shard.h"
#include "kernels/base/random.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using test::bytes_of;
using test::expect_error;
using test::megatron_index_bytes;
using test::shard_bytes;
using test::write_bytes;

/// Ids as a tokenizer's are distributed: anywhere below `vocab`, never two equal ones in a row.
template <typename T>
std::vector<T> some_ids(size_t n, uint64_t vocab, uint64_t seed = 1) {
    SplitMix random(seed);
    std::vector<T> ids;
    for (size_t i = 0; i < n; ++i) {
        T id = static_cast<T>(random.below(vocab));
        if (i > 0 && id == ids.back()) id = static_cast<T>((static_cast<uint64_t>(id) + 1) % vocab);
        ids.push_back(id);
    }
    return ids;
}

class ShardFormats : public testing::Test {
  protected:
    std::string path(const std::string& name) const { return folder_.path() / name; }
    std::vector<int32_t> tokens(const std::string& glob) const {
        std::vector<int32_t> all;
        for (const Shard& shard : open_shards(glob)) {
            std::vector<int32_t> part(static_cast<size_t>(shard.tokens()));
            shard.read(0, part);
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }
    template <typename T>
    static std::vector<int32_t> widened(const std::vector<T>& ids) {
        return {ids.begin(), ids.end()};
    }
    /// A pair of Megatron: documents of these lengths, one sequence each.
    template <typename T>
    void put_pair(const std::string& name, const std::vector<T>& ids, const std::vector<int32_t>& lengths,
                  uint8_t code) {
        std::vector<int64_t> firsts(lengths.size() + 1);
        std::iota(firsts.begin(), firsts.end(), int64_t{0});
        write_bytes(path(name + ".bin"), bytes_of(ids));
        write_bytes(path(name + ".idx"), megatron_index_bytes(lengths, firsts, code, sizeof(T)));
    }
    test::TempFolder folder_;
};

TEST_F(ShardFormats, TokensWithoutAHeaderAreReadAsTheyAre) {
    for (const uint64_t vocab : {20u, 65u, 2048u, 50257u}) {
        const auto narrow = some_ids<uint16_t>(5000, vocab);
        const auto wide = some_ids<uint32_t>(5000, vocab);
        write_bytes(path("narrow.bin"), bytes_of(narrow));
        write_bytes(path("wide.bin"), bytes_of(wide));
        EXPECT_EQ(tokens(path("narrow.bin")), widened(narrow)) << vocab;
        EXPECT_EQ(tokens(path("wide.bin")), widened(wide)) << vocab;
    }
    const auto large = some_ids<uint32_t>(5000, 128256);
    write_bytes(path("large.bin"), bytes_of(large));
    EXPECT_EQ(tokens(path("large.bin")), widened(large));
    const TokenLoader loader(path("large.bin"), 8, 128256, 1);
    ASSERT_EQ(loader.notes().size(), 1u);
    EXPECT_NE(loader.notes()[0].find("no header, taken for uint32 tokens (5000)"), std::string::npos)
        << loader.notes()[0];
}

TEST_F(ShardFormats, ATypeMayBeAskedFor) {
    // These ids are below 16, and every second one is 0: their bytes say nothing about the type.
    std::vector<uint16_t> ids(400);
    for (size_t i = 0; i < ids.size(); i += 2) ids[i] = static_cast<uint16_t>(1 + i / 2 % 15);
    write_bytes(path("train.bin"), bytes_of(ids));
    EXPECT_EQ(tokens(path("train.bin")).size(), 200u);
    EXPECT_EQ(tokens("uint16:" + path("train.bin")), widened(ids));
    EXPECT_EQ(tokens("uint32:" + path("t*.bin")).size(), 200u);
    write_bytes(path("odd.bin"), std::string(1026, 'x'));
    expect_error(ExitCode::kCorruptData, {"odd.bin", "1026 bytes", "uint32"},
                 [&] { open_shards("uint32:" + path("odd.bin")); });
}

TEST_F(ShardFormats, AFolderOfNanoGptHoldsTrainBin) {
    const auto ids = some_ids<uint16_t>(3000, 65);
    write_bytes(path("train.bin"), bytes_of(ids));
    EXPECT_EQ(tokens(shard_glob(folder_.path(), "train")), widened(ids));
    write_bytes(path("train_000000.bin"), shard_bytes<uint16_t>({1, 2, 3}));
    EXPECT_EQ(tokens(shard_glob(folder_.path(), "train")), (std::vector<int32_t>{1, 2, 3}))
        << "these come first";
}

TEST_F(ShardFormats, TheSameTokensHaveOneFingerprint) {
    const auto ids = some_ids<uint16_t>(3000, 500);
    write_bytes(path("a.bin"), bytes_of(ids));
    write_bytes(path("b.bin"), shard_bytes(ids));
    put_pair("c", ids, {1000, 2000}, 8);
    const auto fingerprint = [&](const char* name) {
        return TokenLoader(path(name), 10, 500, 1).fingerprint();
    };
    EXPECT_EQ(fingerprint("a.bin"), fingerprint("b.bin"));
    EXPECT_EQ(fingerprint("a.bin"), fingerprint("c.bin"));
}

TEST_F(ShardFormats, WhatIsNoTokensIsRefused) {
    const std::vector<std::pair<std::string, std::string>> files = {
        {"text", std::string(300, 'a') + "\n"},
        {"gzip", test::gzip(std::string(5000, 'a') + "b")},
        {"Zstandard", test::zstd("a lot of text")},
        {"a NumPy array", "\x93NUMPY" + std::string(122, ' ') + bytes_of(some_ids<uint16_t>(500, 100))},
        {"a zip", "PK\x03\x04" + bytes_of(some_ids<uint16_t>(500, 100))},
        {"uint16 tokens", bytes_of(some_ids<uint16_t>(500, 50257)) + "x"},
    };
    for (const auto& [what, bytes] : files) {
        write_bytes(path("train.bin"), bytes);
        expect_error(ExitCode::kCorruptData, {"train.bin", "not a token shard", what},
                     [&] { TokenLoader(path("train.bin"), 4, 100000, 1); });
    }
}

// What was taken for tokens by mistake has ids beyond the vocabulary, and the message says what it was taken for.
TEST_F(ShardFormats, AWrongGuessShows) {
    write_bytes(path("train.bin"), bytes_of(some_ids<uint16_t>(500, 60000)));
    expect_error(ExitCode::kCorruptData, {"train.bin", "expected ids below", "no header", "uint16"},
                 [&] { TokenLoader(path("train.bin"), 4, 32000, 1); });
    expect_error(ExitCode::kCorruptData, {"train.bin", "expected ids below", "no header", "uint32"},
                 [&] { TokenLoader("uint32:" + path("train.bin"), 4, 32000, 1); });
}

TEST_F(ShardFormats, PairsOfMegatronHaveEveryType) {
    const auto check = [&]<typename T>(T, uint8_t code, uint64_t vocab) {
        SCOPED_TRACE(int{code});
        const auto ids = some_ids<T>(600, vocab);
        put_pair("a_text_document", ids, {100, 0, 499, 1}, code);
        for (const char* name : {"a_text_document.bin", "a_text_document.idx", "a_text_document", "a_*"})
            EXPECT_EQ(tokens(path(name)), widened(ids)) << name;
        const TokenLoader loader(path("a_text_document"), 7, static_cast<int64_t>(vocab), 1);
        EXPECT_EQ(loader.tokens(), 600);
        ASSERT_EQ(loader.notes().size(), 1u);
        EXPECT_NE(loader.notes()[0].find("Megatron"), std::string::npos);
    };
    check(uint8_t{}, 1, 256);
    check(int8_t{}, 2, 128);
    check(int16_t{}, 3, 32768);
    check(int32_t{}, 4, 128256);
    check(int64_t{}, 5, 200000);
    check(uint16_t{}, 8, 50257);
}

TEST_F(ShardFormats, AnIndexHasTheBytesOfTheFormat) {
    const std::string expected(
        "MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x08\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"
        "\x03\0\0\0\x01\0\0\0"
        "\0\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0",
        34 + 8 + 16 + 16);
    EXPECT_EQ(megatron_index_bytes({3, 1}, {0, 2}, 8, 2), expected);
    write_bytes(path("a.idx"), expected);
    const MegatronIndex index = read_megatron_index(path("a.idx"), 8, true);
    EXPECT_EQ(index.tokens, 4);
    EXPECT_EQ(index.documents, 1);
    EXPECT_EQ(index.document_ends, (std::vector<int64_t>{4}));
    write_bytes(path("a.idx"), expected + std::string(2, '\0'));  // modes of two sequences
    EXPECT_EQ(read_megatron_index(path("a.idx"), 8).tokens, 4);
    write_bytes(path("a.idx"), megatron_index_bytes({3, 1, 0, 2}, {0, 2, 2, 4}, 4, 4));
    EXPECT_EQ(read_megatron_index(path("a.idx"), 24, true).document_ends, (std::vector<int64_t>{4, 4, 6}));
}

TEST_F(ShardFormats, IndicesThatDoNotFitAreRefused) {
    const std::string good = megatron_index_bytes({10, 20, 30}, {0, 1, 3}, 8, 2);
    write_bytes(path("a.bin"), bytes_of(some_ids<uint16_t>(60, 100)));
    const auto refuses = [&](const std::string& bytes, std::initializer_list<std::string> parts) {
        write_bytes(path("a.idx"), bytes);
        SCOPED_TRACE(*parts.begin());
        expect_error(ExitCode::kCorruptData, parts, [&] { open_shards(path("a.bin")); });
        expect_error(ExitCode::kCorruptData, {"a.idx"}, [&] { open_shards(path("a.bin")); });
    };
    const auto with = [&](size_t at, const std::string& bytes) {
        std::string changed = good;
        return changed.replace(at, bytes.size(), bytes);
    };
    const size_t lengths = 34, pointers = 34 + 12, documents = 34 + 36;
    refuses(good.substr(0, 20), {"cut short", "20 bytes"});
    refuses("", {"not an index"});
    refuses(good.substr(0, good.size() - 1), {"cut short"});
    refuses(good + "x", {"bytes after the last entry"});
    refuses(with(0, "X"), {"not an index of Megatron"});
    refuses(std::string("TNTIDX\0\0", 8) + good, {"TNTIDX"});
    refuses(with(9, "\x02"), {"version 2"});
    refuses(with(17, "\x07"), {"type code 7"});
    refuses(with(17, "\x05"), {"sequence 1 begins at byte 20"});
    refuses(with(18, std::string(8, '\xff')), {"cut short"});
    refuses(with(26, std::string(8, '\xff')), {"cut short"});
    refuses(with(18, bytes_of<uint64_t>({uint64_t{1} << 61})), {"cut short"});
    refuses(with(lengths, bytes_of<int32_t>({-1})), {"sequence 0 has -1 tokens"});
    refuses(with(lengths, bytes_of<int32_t>({11})), {"sequence 1", "an overlap"});
    refuses(with(lengths + 8, bytes_of<int32_t>({31})), {"sequence 2 ends beyond"});
    refuses(with(lengths + 8, bytes_of<int32_t>({29})), {"118 bytes", "120"});
    refuses(with(pointers + 8, bytes_of<int64_t>({22})), {"sequence 1", "a gap"});
    refuses(with(pointers + 8, bytes_of<int64_t>({-4})), {"an overlap"});
    refuses(with(documents, bytes_of<int64_t>({1})), {"first document"});
    refuses(with(documents + 8, bytes_of<int64_t>({4})), {"document"});
    refuses(with(documents + 16, bytes_of<int64_t>({2})), {"last document", "expected 3"});
    refuses(with(documents + 16, bytes_of<int64_t>({0})), {"before the end"});
    refuses(megatron_index_bytes({60}, {}, 8, 2), {"last document"});
    write_bytes(path("a.idx"), good);
    EXPECT_EQ(open_shards(path("a.idx")).front().tokens(), 60);
    std::filesystem::resize_file(path("a.bin"), 118);
    expect_error(ExitCode::kCorruptData, {"a.idx", "cut short", "118"}, [&] { open_shards(path("a.bin")); });
    write_bytes(path("a.bin"), bytes_of(some_ids<uint16_t>(61, 100)));
    expect_error(ExitCode::kCorruptData, {"a.idx", "120 bytes", "122"}, [&] { open_shards(path("a.bin")); });
}

TEST_F(ShardFormats, IdsOfSignedTypesMustNotBeNegative) {
    put_pair<int32_t>("a", {1, 2, -3, 4}, {4}, 4);
    expect_error(ExitCode::kCorruptData, {"a.bin", "token 2", "id -3"},
                 [&] { TokenLoader(path("a.bin"), 2, 10, 1); });
    put_pair<int64_t>("a", {1, 2, int64_t{1} << 40, 4}, {4}, 5);
    expect_error(ExitCode::kCorruptData, {"token 2", "1099511627776"},
                 [&] { TokenLoader(path("a.bin"), 2, 10, 1); });
}

TEST_F(ShardFormats, InfoNamesTheFormat) {
    write_bytes(path("train.bin"), bytes_of(some_ids<uint16_t>(3000, 65)));
    put_pair("wiki", some_ids<int32_t>(100, 90), {60, 40}, 4);
    write_bytes(path("val_000000.bin"), shard_bytes<uint16_t>({1, 2, 3}));
    const std::vector<ShardGroup> groups = inspect_shards(folder_.path(), 5);
    ASSERT_EQ(groups.size(), 3u);
    EXPECT_EQ(groups[0].format, "nanoGPT");
    EXPECT_EQ(groups[0].bits, 16);
    EXPECT_EQ(groups[1].format, "llm.c");
    EXPECT_EQ(groups[2].format, "Megatron");
    EXPECT_EQ(groups[2].bits, 32);
    EXPECT_EQ(groups[2].tokens, 100);
    EXPECT_TRUE(groups[1].notes.empty());
    EXPECT_EQ(groups[2].notes.size(), 1u);
}

}  // namespace
}  // namespace pastur
