// Sequences of whole documents, and of one document each.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "data/loader.h"
#include "data/meta.h"
#include "data/sequence_plan.h"
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

/// Lengths of documents, mostly short ones.
std::vector<int64_t> some_lengths(SplitMix& random, size_t count, uint64_t most) {
    std::vector<int64_t> lengths;
    for (size_t i = 0; i < count; ++i)
        lengths.push_back(static_cast<int64_t>(1 + random.below(1 + random.below(most))));
    return lengths;
}

std::vector<int64_t> ends_of(const std::vector<int64_t>& lengths) {
    std::vector<int64_t> ends(lengths.size());
    std::partial_sum(lengths.begin(), lengths.end(), ends.begin());
    return ends;
}

/// Every token is in one sequence, a token where a long document is cut in two; documents that fit are whole; no
/// sequence is too long. Returns the number of sequences.
int64_t expect_packed(const std::vector<int64_t>& lengths, int64_t seq_len) {
    const std::vector<int64_t> ends = ends_of(lengths);
    const int64_t tokens = ends.empty() ? 0 : ends.back();
    const SequencePlan plan(SequenceLayout::kDocuments, ends, tokens, seq_len);
    std::vector<int> reads(static_cast<size_t>(tokens));
    std::set<int64_t> begins{0};
    begins.insert(ends.begin(), ends.end());
    int64_t before = -1, missing = 0;
    for (int64_t i = 0; i < plan.sequences(); ++i) {
        int64_t size = 0;
        EXPECT_GT(plan.pieces(i).front().begin, before) << "sequences are in the order of the corpus";
        before = plan.pieces(i).front().begin;
        int64_t last = -1;
        for (const auto& [begin, length] : plan.pieces(i)) {
            EXPECT_GT(begin, last);
            last = begin;
            size += length;
            for (int64_t t = begin; t < begin + length; ++t) ++reads[static_cast<size_t>(t)];
            const bool whole = begins.contains(begin) && begins.contains(begin + length);
            const auto document = std::upper_bound(ends.begin(), ends.end(), begin);
            const int64_t length_of_document = lengths[static_cast<size_t>(document - ends.begin())];
            EXPECT_TRUE(whole || length_of_document > seq_len + 1) << "a document that fits was cut";
        }
        EXPECT_LE(size, seq_len + 1);
        EXPECT_EQ(plan.targets(i), size - 1);
        EXPECT_GE(plan.targets(i), 1);
    }
    int64_t begin = 0;
    for (const int64_t length : lengths) {
        for (int64_t t = 0; t < length; ++t) {
            const bool overlap = length > seq_len + 1 && t > 0 && t % seq_len == 0 && t < length - 1;
            const int count = reads[static_cast<size_t>(begin + t)];
            missing += count == 0;
            if (count != 0) {
                EXPECT_EQ(count, overlap ? 2 : 1) << "token " << t << " of " << length;
            }
        }
        begin += length;
    }
    EXPECT_LE(missing, 1) << "only a single token may be left out";
    return plan.sequences();
}

TEST(SequencePlan, PacksWholeDocuments) {
    EXPECT_EQ(expect_packed({5, 3, 2, 4, 1}, 4), 3);  // 5 | 3 + 2 | 4 + 1
    EXPECT_EQ(expect_packed({1}, 4), 0);
    EXPECT_EQ(expect_packed({2}, 4), 1);
    EXPECT_EQ(expect_packed({}, 4), 0);
    EXPECT_EQ(expect_packed({17}, 4), 4);  // 0-4 4-8 8-12 12-16
    EXPECT_EQ(expect_packed({18}, 4), 5);  // and 16-17
    EXPECT_EQ(expect_packed({1, 1, 1}, 1), 1);
    SplitMix random(5);
    for (int i = 0; i < 200; ++i) {
        const std::vector<int64_t> lengths = some_lengths(random, random.below(80), 1 + random.below(60));
        expect_packed(lengths, static_cast<int64_t>(1 + random.below(40)));
        if (testing::Test::HasFailure()) return;
    }
}

// No packing needs fewer sequences than the number of tokens over the capacity.
TEST(SequencePlan, PacksTightly) {
    SplitMix random(6);
    const std::vector<int64_t> lengths = some_lengths(random, 20000, 400);
    const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    const SequencePlan plan(SequenceLayout::kDocuments, ends_of(lengths), tokens, 511);
    EXPECT_LE(static_cast<double>(plan.sequences()), 1.005 * static_cast<double>(tokens) / 512 + 1);
}

TEST(SequencePlan, DescribesWhatItCosts) {
    const std::vector<int64_t> lengths = {5, 3, 2, 9, 1};
    const SequencePlan packed(SequenceLayout::kDocuments, ends_of(lengths), 20, 4);
    // 0-4 | 3 + 2 | two pieces of the one of 9 | 1 is left out: 4 + 4 + 8 = 16 of 16 positions.
    EXPECT_EQ(packed.sequences(), 4);
    EXPECT_NE(packed.describe().find("4 sequences of 5 documents"), std::string::npos) << packed.describe();
    EXPECT_NE(packed.describe().find("1 longer"), std::string::npos) << packed.describe();
    EXPECT_NE(packed.describe().find("0.00 %"), std::string::npos) << packed.describe();
    const SequencePlan padded(SequenceLayout::kPad, ends_of(lengths), 20, 4);
    // 5, 3, 2 and 5 of 9 tokens: 4 + 2 + 1 + 4 = 11 of 16 positions; 5 of 20 tokens are left out.
    EXPECT_EQ(padded.sequences(), 4);
    EXPECT_NE(padded.describe().find("25.00 % of all tokens; 31.25 %"), std::string::npos)
        << padded.describe();
}

class PackedLoader : public testing::Test {
  protected:
    static constexpr uint16_t kEos = 9;
    /// Documents of the lengths, with their EOS; document d holds the ids 10 + d.
    void put(const std::vector<int64_t>& lengths, bool with_meta = true) {
        std::vector<uint16_t> tokens;
        for (size_t d = 0; d < lengths.size(); ++d) {
            tokens.insert(tokens.end(), static_cast<size_t>(lengths[d] - 1), static_cast<uint16_t>(10 + d));
            tokens.push_back(kEos);
        }
        // A document may cross the border of two shards.
        const auto half = tokens.begin() + std::ssize(tokens) / 2;
        write_bytes(folder_.path() / "a_0.bin", shard_bytes(std::vector<uint16_t>(tokens.begin(), half)));
        write_bytes(folder_.path() / "a_1.bin", shard_bytes(std::vector<uint16_t>(half, tokens.end())));
        DataMeta meta;
        meta.tokenizer = "bytes";
        meta.vocab_size = 100;
        meta.eos_id = kEos;
        if (with_meta) write_bytes(folder_.path() / kMetaFile, to_json(meta));
    }
    std::string glob() const { return folder_.path() / "a_*.bin"; }
    static std::vector<int32_t> sequence(const TokenLoader& loader, int64_t i, size_t size) {
        std::vector<int32_t> out(size);
        loader.sequence(i, out);
        return out;
    }
    test::TempFolder folder_;
};

TEST_F(PackedLoader, OneDocumentASequence) {
    put({3, 1, 6, 2});
    const TokenLoader loader(glob(), 4, 100, 1, SequenceLayout::kPad);
    ASSERT_EQ(loader.sequences(), 3);
    EXPECT_EQ(sequence(loader, 0, 5), (std::vector<int32_t>{10, 10, kEos, -1, -1}));
    EXPECT_EQ(sequence(loader, 1, 5), (std::vector<int32_t>{12, 12, 12, 12, 12}));
    EXPECT_EQ(sequence(loader, 2, 5), (std::vector<int32_t>{13, kEos, -1, -1, -1}));
    EXPECT_EQ(loader.sequence_targets(0, 3), 2 + 4 + 1);
    EXPECT_EQ(loader.sample_targets(0, 3), 2 + 4 + 1) << "an epoch has each of them";
    EXPECT_EQ(loader.sample_targets(0, 6), 2 * (2 + 4 + 1));
    ASSERT_EQ(loader.notes().size(), 1u);
    EXPECT_NE(loader.notes()[0].find("of one document each"), std::string::npos);
}

TEST_F(PackedLoader, WholeDocumentsInOneSequence) {
    put({3, 4, 2, 1});
    const TokenLoader loader(glob(), 4, 100, 1, SequenceLayout::kDocuments);
    ASSERT_EQ(loader.sequences(), 2);
    EXPECT_EQ(sequence(loader, 0, 5), (std::vector<int32_t>{10, 10, kEos, 12, kEos}));
    EXPECT_EQ(sequence(loader, 1, 5), (std::vector<int32_t>{11, 11, 11, kEos, kEos}));
    EXPECT_EQ(loader.sample_targets(0, 2), 8);
    EXPECT_EQ(loader.fingerprint(), TokenLoader(glob(), 4, 100, 1).fingerprint()) << "the same data";
}

TEST_F(PackedLoader, SamplesAreAFunctionOfTheirIndex) {
    SplitMix random(4);
    put(some_lengths(random, 80, 30));
    for (const SequenceLayout layout : {SequenceLayout::kDocuments, SequenceLayout::kPad}) {
        const TokenLoader loader(glob(), 16, 100, 7, layout);
        std::vector<int32_t> out(17);
        std::multiset<std::vector<int32_t>> epochs[2], stored;
        for (int64_t i = 0; i < 2 * loader.sequences(); ++i) {
            loader.sample(i, out);
            epochs[i / loader.sequences()].insert(out);
            const auto padding = std::find(out.begin(), out.end(), -1);
            EXPECT_EQ(loader.sample_targets(i, i + 1), padding - out.begin() - 1);
            EXPECT_TRUE(std::all_of(padding, out.end(), [](int32_t id) { return id == -1; }));
        }
        for (int64_t i = 0; i < loader.sequences(); ++i) stored.insert(sequence(loader, i, 17));
        EXPECT_EQ(epochs[0], stored);
        EXPECT_EQ(epochs[1], stored);
    }
}

TEST_F(PackedLoader, TheEndOfADocumentMustBeKnown) {
    put({3, 4, 2}, /*with_meta=*/false);
    for (const SequenceLayout layout : {SequenceLayout::kDocuments, SequenceLayout::kPad})
        expect_error(ExitCode::kUsage, {"data.packing = \"stream\"", "meta.json", "a_*.bin"},
                     [&] { TokenLoader(glob(), 4, 100, 1, layout); });
    EXPECT_EQ(TokenLoader(glob(), 4, 100, 1).sequences(), 2);
    EXPECT_EQ(TokenLoader(glob(), 4, 100, 1).separator(), std::nullopt);
    DataMeta meta;
    meta.eos_id = -1;
    write_bytes(folder_.path() / kMetaFile, to_json(meta));
    expect_error(ExitCode::kUsage, {"data.packing"},
                 [&] { TokenLoader(glob(), 4, 100, 1, SequenceLayout::kPad); });
    EXPECT_EQ(TokenLoader(glob(), 4, 100, 1).separator(), std::nullopt);
    meta.eos_id = 17;
    write_bytes(folder_.path() / kMetaFile, to_json(meta));
    EXPECT_EQ(TokenLoader(glob(), 4, 100, 1).separator(), 17);
    std::filesystem::remove(folder_.path() / kMetaFile);
    // GPT-2's vocabulary has <|endoftext|> at its end.
    write_bytes(folder_.path() / "a_0.bin", shard_bytes<uint16_t>({50256, 1, 2, 50256, 5, 6, 7}));
    write_bytes(folder_.path() / "a_1.bin", shard_bytes<uint16_t>({8}));
    const TokenLoader loader(glob(), 4, 50304, 1, SequenceLayout::kPad);
    ASSERT_EQ(loader.sequences(), 2);
    EXPECT_EQ(loader.separator(), 50256);
    EXPECT_EQ(sequence(loader, 0, 5), (std::vector<int32_t>{1, 2, 50256, -1, -1}));
    EXPECT_EQ(sequence(loader, 1, 5), (std::vector<int32_t>{5, 6, 7, 8, -1}));
}

TEST_F(PackedLoader, AnIndexOfMegatronKnowsItsDocuments) {
    const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    write_bytes(folder_.path() / "m.bin", bytes_of(tokens));
    const auto load = [&](const std::vector<int64_t>& firsts) {
        write_bytes(folder_.path() / "m.idx", megatron_index_bytes({2, 2, 4, 1}, firsts, 4, 4));
        return TokenLoader(folder_.path() / "m", 4, 100, 1, SequenceLayout::kPad);
    };
    const TokenLoader two = load({0, 2, 4}), four = load({0, 1, 2, 3, 4});
    ASSERT_EQ(two.sequences(), 2);
    EXPECT_EQ(sequence(two, 0, 5), (std::vector<int32_t>{1, 2, 3, 4, -1}));
    EXPECT_EQ(sequence(two, 1, 5), (std::vector<int32_t>{5, 6, 7, 8, 9}));
    EXPECT_EQ(four.sequences(), 3) << "a document of one token has nothing to predict";
    EXPECT_NE(two.fingerprint(), four.fingerprint()) << "other documents are other data";
}

TEST_F(PackedLoader, RefusesDataWithoutAnythingToPredict) {
    put({1, 1, 1});
    expect_error(ExitCode::kCorruptData, {"no document of two tokens"},
                 [&] { TokenLoader(glob(), 4, 100, 1, SequenceLayout::kPad); });
}

}  // namespace
}  // namespace pastur
