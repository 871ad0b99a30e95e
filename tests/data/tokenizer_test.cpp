// Tokenizers: bytes, and trained SentencePiece models.
#include "data/tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "data/synth/synth.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "data/tokenizer/train_tokenizer.h"
#include "kernels/base/random.h"
#include "tests/support/expect_error.h"
#include "tests/support/fuzz.h"

namespace pastur {
namespace {

using test::expect_error;

/// Hands out the given texts once.
NextText source(std::vector<std::string> texts) {
    return [texts = std::move(texts), at = size_t{0}](std::string& text) mutable {
        if (at == texts.size()) return false;
        text = texts[at++];
        return true;
    };
}

std::vector<std::string> stories(int n, uint64_t seed = 3) {
    std::vector<std::string> texts;
    for (int i = 0; i < n; ++i) texts.push_back(synthetic_story(seed, static_cast<uint64_t>(i)));
    return texts;
}

const std::string& trained_model() {
    static const std::string model = train_tokenizer(700, source(stories(100)));
    return model;
}

const std::vector<std::string>& awkward_texts() {
    static const std::vector<std::string> texts = {
        "",
        " ",
        "\n",
        "  two  spaces   three\n\n\ttab\r\nend  ",
        "Caf\u00e9 na\u00efve \u4f60\u597d\uff0c\u4e16\u754c \U0001F600\U0001F468\u200d\U0001F469",
        "digits 1234567890 3.14159 x=y+z; {\"json\": [1, 2]}",
        std::string("nul \0 inside", 12),
        "<s> </s> <unk> <0x41>",
        "averyveryverylongwordwithoutanyspaces" + std::string(5000, 'q'),
        "Zero\u0301 combining",
    };
    return texts;
}

TEST(Tokenizer, BytesAreThemselves) {
    const auto tokenizer = byte_tokenizer();
    EXPECT_EQ(tokenizer->vocab_size(), 257);
    EXPECT_EQ(tokenizer->eos_id(), 256);
    EXPECT_EQ(tokenizer->encode("a\xff\n"), (std::vector<int32_t>{97, 255, 10}));
    EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{104, 105, 256, 33}), "hi!");
    expect_error(ExitCode::kCorruptData, {"257"}, [&] { tokenizer->decode(std::vector<int32_t>{257}); });
    expect_error(ExitCode::kCorruptData, {"-1"}, [&] { tokenizer->decode(std::vector<int32_t>{-1}); });
}

TEST(Tokenizer, TrainedModelRoundTrips) {
    const auto tokenizer = sentencepiece_tokenizer(trained_model(), "model");
    EXPECT_EQ(tokenizer->vocab_size(), 700);
    EXPECT_EQ(tokenizer->eos_id(), 2);
    for (const std::string& text : awkward_texts())
        EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
    for (const std::string& text : stories(20, 99))
        EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
    expect_error(ExitCode::kCorruptData, {"700"}, [&] { tokenizer->decode(std::vector<int32_t>{700}); });
}

TEST(Tokenizer, TrainingIsDeterministic) {
    EXPECT_EQ(train_tokenizer(700, source(stories(100))), trained_model());
    EXPECT_NE(train_tokenizer(700, source(stories(100, 4))), trained_model());
}

TEST(Tokenizer, TrainingExplainsAVocabularyThatDoesNotFit) {
    expect_error(ExitCode::kUsage, {"train:200", "expected more"},
                 [] { train_tokenizer(200, source(stories(10))); });
    expect_error(ExitCode::kUsage, {"train:50000", "or less"},
                 [] { train_tokenizer(50000, source(stories(3))); });
    expect_error(ExitCode::kCorruptData, {"no text"}, [] { train_tokenizer(500, source({})); });
    expect_error(ExitCode::kCorruptData, {"no text"}, [] { train_tokenizer(500, source({"", "\n\t"})); });
}

TEST(Tokenizer, TrainingPassesTheSourcesErrorOn) {
    int calls = 0;
    const NextText broken = [&](std::string& text) {
        text = "some text";
        if (++calls == 5) fail(ExitCode::kCorruptData, "line five is broken");
        return true;
    };
    expect_error(ExitCode::kCorruptData, {"line five"}, [&] { train_tokenizer(300, broken); });
}

// Cutting where no piece reaches across, and caching words, does not change any id.
void expect_same_as_library(const std::string& model, bool normalises) {
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
    const auto tokenizer = sentencepiece_tokenizer(model, "model");
    const auto encoder = tokenizer->make_encoder();
    std::vector<std::string> texts = stories(20, 5);
    texts.insert(texts.end(), awkward_texts().begin(), awkward_texts().end());
    for (const std::string& text : texts) {
        const std::vector<int> expected = library.EncodeAsIds(text);
        std::vector<int32_t> ids;
        for (int time = 0; time < 2; ++time) {  // a cold and a warm cache
            ids.clear();
            encoder->encode(text, ids);
            ASSERT_EQ(ids, std::vector<int32_t>(expected.begin(), expected.end())) << text.substr(0, 80);
        }
        EXPECT_TRUE(normalises || tokenizer->decode(ids) == text) << text.substr(0, 80);
    }
}

/// Ids are those that the library gives for the whole text.
void expect_whole(const std::string& model, const std::string& text) {
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
    const std::vector<int> expected = library.EncodeAsIds(text);
    const std::vector<int32_t> ids = sentencepiece_tokenizer(model, "model")->encode(text);
    const auto differs = std::mismatch(ids.begin(), ids.end(), expected.begin(), expected.end()).first;
    EXPECT_TRUE(ids == std::vector<int32_t>(expected.begin(), expected.end()))
        << "at token " << differs - ids.begin() << " of " << ids.size();
}

std::string library_model(std::unordered_map<std::string, std::string> options) {
    class Lines final : public sentencepiece::SentenceIterator {
      public:
        bool done() const override { return at_ == lines_.size(); }
        void Next() override { ++at_; }
        const std::string& value() const override { return lines_[at_]; }
        sentencepiece::util::Status status() const override { return {}; }

      private:
        std::vector<std::string> lines_ = stories(60);
        size_t at_ = 0;
    } lines;
    options["minloglevel"] = "2";
    options["vocab_size"] = "600";
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
    if (!status.ok()) throw std::runtime_error(status.ToString());
    return model;
}

TEST(Tokenizer, EncodesAsTheLibraryDoes) {
    expect_same_as_library(trained_model(), false);
}

TEST(Tokenizer, EncodesAsTheLibraryDoesWithADummyPrefix) {
    const std::string model = library_model({{"model_type", "bpe"},
                                             {"byte_fallback", "true"},
                                             {"normalization_rule_name", "identity"},
                                             {"remove_extra_whitespaces", "false"}});
    EXPECT_TRUE(read_sentencepiece_spec(model).add_dummy_prefix);
    expect_same_as_library(model, false);
}

TEST(Tokenizer, EncodesAsTheLibraryDoesWithUnigramPieces) {
    expect_same_as_library(library_model({{"model_type", "unigram"},
                                          {"byte_fallback", "true"},
                                          {"normalization_rule_name", "identity"},
                                          {"add_dummy_prefix", "false"},
                                          {"split_by_whitespace", "false"},
                                          {"user_defined_symbols", "of the,<|user|>"},
                                          {"remove_extra_whitespaces", "false"}}),
                           false);
}

TEST(Tokenizer, EncodesAsTheLibraryDoesWithItsDefaults) {
    const std::string model = library_model({{"model_type", "unigram"}});
    const SentencePieceSpec spec = read_sentencepiece_spec(model);
    EXPECT_TRUE(spec.charsmap);
    EXPECT_TRUE(spec.remove_extra_whitespaces);
    expect_same_as_library(model, true);
    expect_same_as_library(library_model({{"model_type", "bpe"}, {"treat_whitespace_as_suffix", "true"}}),
                           true);
}

// Long texts are cut in the place of a space, and every part has the space that the cut took.
TEST(Tokenizer, LongTextsHaveTheTokensOfTheWholeText) {
    std::string text = "  ";
    for (const std::string& story : stories(600, 6)) text += story + (text.size() % 2 ? "\n\n" : "  ");
    ASSERT_GT(text.size(), 520u << 10);
    const auto model = [](const char* suffix, const char* prefix, const char* extra) {
        return library_model({{"model_type", "bpe"},
                              {"treat_whitespace_as_suffix", suffix},
                              {"add_dummy_prefix", prefix},
                              {"remove_extra_whitespaces", extra}});
    };
    expect_whole(model("false", "true", "true"), text);
    expect_whole(model("false", "false", "false"), text);
    expect_whole(model("true", "false", "true"), text);
    expect_whole(model("true", "true", "true"), text);
    // The library adds scores in single precision, so in longer texts it cannot tell paths apart.
    text.resize(300 << 10);
    expect_whole(library_model({{"model_type", "unigram"}}), text);
}

std::string letters(size_t n) {
    SplitMix random(1);
    std::string text(n, ' ');
    for (char& c : text) c = static_cast<char>('a' + random.below(26));
    return text;
}

// Every pair of letters occurs in some piece, so there is no place to cut: windows overlap.
TEST(Tokenizer, LongWordsHaveTheTokensOfTheWholeWord) {
    const std::string text = letters(400'000), bpe = train_tokenizer(1200, source({text.substr(0, 100'000)}));
    expect_whole(bpe, text);
    expect_whole(bpe,
                 text.substr(0, 70'000) + std::string(100'000, 'a') + "\u4f60" + text.substr(0, 100'000));
    std::string unknown;
    for (int i = 0; i < 60'000; ++i) unknown += "\u4f60\u597d";
    expect_whole(trained_model(), unknown);
}

/// A varint and bytes, as a field of a protocol buffer message.
std::string message_field(int number, const std::string& bytes) {
    std::string out(1, static_cast<char>(number << 3 | 2));
    size_t size = bytes.size();
    for (; size >= 128; size >>= 7) out += static_cast<char>(size | 128);
    return out + static_cast<char>(size) + bytes;
}

// The library follows the offsets in a normaliser's table wherever they lead.
TEST(Tokenizer, RefusesNormalisersThatLeadOutOfTheirTable) {
    const std::string good = library_model({{"model_type", "unigram"}});
    EXPECT_EQ(sentencepiece_problem(good), "");
    const auto with_table = [&](const std::string& table) {  // later fields replace earlier ones
        return good + message_field(3, message_field(2, table));
    };
    const auto word = [](uint32_t value) { return std::string(reinterpret_cast<const char*>(&value), 4); };
    const auto table = [&](uint32_t root, uint32_t child, const std::string& replacements) {
        std::string trie = word(root);
        for (int i = 1; i < 256; ++i) trie += word(i == 98 ? child : 0);
        return word(1024) + trie + replacements;
    };
    // The root's children are at 1 ^ character; 'c' ^ 1 is 98. A unit is offset << 10 | has a value << 8 | label.
    EXPECT_EQ(sentencepiece_problem(with_table(table(1 << 10, 'c', std::string("x\0", 2)))), "");
    const std::vector<std::string> bad = {
        table(1 << 20, 'c', std::string("x\0", 2)),            // the root's children
        table(1 << 10, 1 << 20 | 'c', std::string("x\0", 2)),  // the children of 'c'
        table(1 << 10, 'c', "x"),                              // no end of a replacement
        table(1 << 31 | 1 << 20, 'c', std::string("x\0", 2)),  // a root that looks like a value
        word(1024) + std::string(1000, '\0'),
        word(3) + "abcd",
        word(0) + std::string("x\0", 2),
        "abc"};
    for (const std::string& bytes : bad)
        expect_error(ExitCode::kCorruptData, {"model", "the table of its normaliser is damaged"},
                     [&] { sentencepiece_tokenizer(with_table(bytes), "model"); });
    // A leaf that points behind the replacements: 'c' has a value, at 98 ^ 2, which is 96.
    std::string leaf = table(1 << 10, 2 << 10 | 1 << 8 | 'c', std::string("x\0", 2));
    leaf.replace(4 + 4 * 96, 4, word(1u << 31 | 1));
    EXPECT_EQ(sentencepiece_problem(with_table(leaf)), "");
    leaf.replace(4 + 4 * 96, 4, word(1u << 31 | 2));
    EXPECT_NE(sentencepiece_problem(with_table(leaf)), "");
}

TEST(Tokenizer, RefusesPiecesThatTheLibraryTakesUnchecked) {
    const std::string& good = trained_model();
    const auto refuses = [&](const std::string& more, const std::string& why) {
        expect_error(ExitCode::kCorruptData, {"model", why},
                     [&] { sentencepiece_tokenizer(good + more, "model"); });
    };
    refuses(message_field(1, message_field(1, "\xff")), "not UTF-8");
    refuses(message_field(1, message_field(1, "new") + std::string("\x15\x00\x00\xc0\x7f", 5)), "not finite");
    refuses(message_field(1, "\x0a"), "a piece is damaged");
    refuses("\x0b", "cut short or damaged");  // the start of a group
    std::string many;
    for (int i = 0; i <= 1 << 16; ++i) many += message_field(12, "");
    refuses(message_field(2, many), "fields");
}

// Every pair of letters occurs in some piece, so there is no place to cut that keeps the tokens.
TEST(Tokenizer, MemoryDoesNotGrowWithTextWithoutSpaces) {
    const std::string text = letters(4'000'000);
    const std::string bpe = train_tokenizer(1200, source({text.substr(0, 100'000)}));
    const std::string normalising = library_model({{"model_type", "bpe"}});
    const int64_t before = test::resident_mib();
    for (const std::string& model : {bpe, normalising}) {
        const auto tokenizer = sentencepiece_tokenizer(model, "model");
        const std::vector<int32_t> ids = tokenizer->encode(text);
        EXPECT_LT(test::resident_mib() - before, 150);  // 500 if it is encoded at once
        const std::vector<int32_t> front(ids.begin(), ids.begin() + 20'000),
            same = tokenizer->encode(text.substr(0, 60'000));
        EXPECT_TRUE(std::equal(front.begin(), front.end(), same.begin()));
    }
}

TEST(Tokenizer, RefusesWhatIsNoModel) {
    expect_error(ExitCode::kCorruptData, {"x.model: not a SentencePiece model"},
                 [] { sentencepiece_tokenizer("not a model", "x.model"); });
    EXPECT_EQ(sentencepiece_reason("./src/trainer_interface.cc(428) [!sentences_.empty()] "), "");
    EXPECT_EQ(sentencepiece_reason("./src/x.cc(1) [(a[0]) == (b)] Too high (3)."), "Too high (3).");
    EXPECT_EQ(sentencepiece_reason("unk is not defined."), "unk is not defined.");
    expect_error(ExitCode::kCorruptData, {"x.model"}, [] { sentencepiece_tokenizer("", "x.model"); });
    const std::string model = library_model({{"model_type", "bpe"}, {"eos_id", "-1"}});
    expect_error(ExitCode::kCorruptData, {"end-of-sentence"},
                 [&] { sentencepiece_tokenizer(model, "x.model"); });
    expect_error(ExitCode::kMissingInput, {"nowhere.model"}, [] { load_tokenizer("nowhere.model"); });
}

}  // namespace
}  // namespace pastur
