// What `data prepare` holds out for validation.
#include "data/prepare.h"

#include <gtest/gtest.h>

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

// --val-tokens at least, or a tenth of all, from the end of the corpus: whole documents where they are short.
TEST_F(Prepare, HoldsOutTheTailWhereDocumentsAreTooFew) {
    options_.val_fraction = 1e-9;
    options_.val_tokens = 100;
    const std::string one = std::string(5000, 'a') + "b";
    PrepareResult result = run(put("a.txt", one));
    EXPECT_EQ(tokens("train"), std::vector<int32_t>(4902, 'a'));
    std::vector<int32_t> expected(98, 'a');
    expected.insert(expected.end(), {'b', 256});
    EXPECT_EQ(tokens("val"), expected);
    EXPECT_EQ(result.meta.val_tail_tokens, 100);
    EXPECT_EQ(result.meta.train.bytes + result.meta.val.bytes, 5001);
    ASSERT_EQ(result.notes.size(), 1u);
    EXPECT_NE(result.notes[0].find("last 100 tokens"), std::string::npos);
    EXPECT_EQ(read_meta(options_.out).val_tail_tokens, 100);

    // A short document at the end is held out whole, with the end of the one before.
    result = run_again(put("a.txt", one + "\n<|doc|>\nshort\n"));
    EXPECT_EQ(result.meta.val.tokens, 100);
    EXPECT_EQ(byte_tokenizer()->decode(tokens("val")), std::string(92, 'a') + "bshort");

    // Documents between 100 and 200 tokens are held out whole.
    std::string text;
    for (int i = 0; i < 50; ++i) text += std::string(129, static_cast<char>('a' + i % 26)) + "\n<|doc|>\n";
    result = run_again(put("a.txt", text));
    EXPECT_EQ(result.meta.val.tokens, 130);
    EXPECT_EQ(result.meta.val.documents, 1);

    // A tenth of a short corpus; nothing of one that is shorter still.
    result = run_again(put("a.txt", std::string(299, 'a')));
    EXPECT_EQ(result.meta.val.tokens, 30);
    result = run_again(put("a.txt", "only one"));
    EXPECT_EQ(result.meta.val.tokens, 0);
    EXPECT_FALSE(files().count("val_000000.bin"));
    ASSERT_EQ(result.notes.size(), 1u);
    EXPECT_NE(result.notes[0].find("no validation split"), std::string::npos);
}

TEST_F(Prepare, DoesNotHoldOutTheTailWhereDocumentsSuffice) {
    options_.val_fraction = 0.3;
    options_.val_tokens = 100;
    const PrepareResult result = run(put_stories(50));
    EXPECT_EQ(result.meta.val_tail_tokens, 0);
    EXPECT_GT(result.meta.val.documents, 5);
    EXPECT_TRUE(result.notes.empty());
    options_.val_fraction = 0;
    EXPECT_EQ(run_again(put_stories(50)).meta.val.tokens, 0);
    EXPECT_EQ(run_again(put_stories(50)).notes.size(), 0u);
}

TEST_F(Prepare, TrainingGetsADocumentWhereAllAreHashedToValidation) {
    options_.val_fraction = 1 - 1e-9;
    const PrepareResult result = run(put("a.txt", "one\n<|doc|>\ntwo\n<|doc|>\nthree\n"));
    EXPECT_EQ(result.meta.val.documents, 2);
    EXPECT_EQ(tokens("train"), (std::vector<int32_t>{'t', 'h', 'r', 'e', 'e', 256}));
    ASSERT_EQ(result.notes.size(), 1u);
    EXPECT_NE(result.notes[0].find("the last one went to training"), std::string::npos);
    // The tokenizer's sample is what is there: SentencePiece refuses an empty one.
    options_.tokenizer = "train:300";
    EXPECT_EQ(run_again(put_stories(1)).meta.train.documents, 1);
}

TEST_F(Prepare, KeepsTheOrderOfEachSplit) {
    options_.val_fraction = 0.5;
    run(put_stories(50));
    const auto tokenizer = byte_tokenizer();
    std::string train = tokenizer->decode(tokens("train")), val = tokenizer->decode(tokens("val"));
    for (uint64_t i = 0; i < 50; ++i) {
        const std::string story = synthetic_story(11, i);
        std::string& split = train.starts_with(story) ? train : val;
        ASSERT_TRUE(split.starts_with(story)) << "story " << i;
        split.erase(0, story.size());
    }
}

}  // namespace
}  // namespace pastur
