#include "tools/pastur/generate/text_stream.h"

#include <gtest/gtest.h>

#include "data/corpus/utf8.h"

namespace pastur::test {
namespace {

/// Pushes the bytes of a text; returns everything that was taken, piece by piece.
std::vector<std::string> pieces_of(TextStream& stream, const std::string& bytes) {
    std::vector<std::string> pieces;
    for (const char c : bytes) {
        const bool goes_on = stream.push(static_cast<uint8_t>(c));
        pieces.push_back(stream.take());
        EXPECT_TRUE(is_utf8(pieces.back()));
        if (!goes_on) break;
    }
    stream.finish();
    pieces.push_back(stream.take());
    return pieces;
}

std::string joined(const std::vector<std::string>& pieces) {
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    return text;
}

TEST(TextStream, NeverTakesHalfACharacter) {
    const std::string text = "a\u00e9\u20ac\U0001F600z";
    TextStream stream(byte_tokenizer(), {'x'}, {});
    const std::vector<std::string> pieces = pieces_of(stream, text);
    EXPECT_EQ(pieces, (std::vector<std::string>{"a", "", "\u00e9", "", "", "\u20ac", "", "", "", "\U0001F600",
                                                "z", ""}));
    EXPECT_EQ(stream.text(), text);
}

TEST(TextStream, RepairsWhatIsNoCharacter) {
    TextStream cut(byte_tokenizer(), {}, {});
    EXPECT_EQ(joined(pieces_of(cut, "ab\xe2\x82")), "ab\ufffd") << "the end of a character is missing";
    TextStream damaged(byte_tokenizer(), {}, {});
    EXPECT_EQ(joined(pieces_of(damaged, "a\xff\x80z")), "a\ufffd\ufffdz");
    TextStream interrupted(byte_tokenizer(), {}, {});
    EXPECT_EQ(joined(pieces_of(interrupted, "\xe2\x82-\xc3")), "\ufffd-\ufffd");
}

TEST(TextStream, EndsBeforeAStopText) {
    for (const auto& [stops, bytes, want] :
         std::vector<std::tuple<std::vector<std::string>, std::string, std::string>>{
             {{"END"}, "one END two", "one "},
             {{"END"}, "one EN two", "one EN two"},
             {{"aab"}, "aaaab", "aa"},
             {{"two", "e t"}, "one two", "on"},
             {{"\u20ac"}, "1 \u20ac 2", "1 "},
             {{"\n\n"}, "a\nb\n\nc", "a\nb"},
             {{"x"}, "xyz", ""},
             {{"never"}, "it ends in nev", "it ends in nev"}}) {
        TextStream stream(byte_tokenizer(), {}, stops);
        const std::vector<std::string> pieces = pieces_of(stream, bytes);
        EXPECT_EQ(joined(pieces), want);
        EXPECT_EQ(stream.text(), want);
    }
}

TEST(TextStream, HoldsBackWhatMayBeginAStopText) {
    TextStream stream(byte_tokenizer(), {}, {"stop"});
    EXPECT_EQ(pieces_of(stream, "a sto!"), (std::vector<std::string>{"a", " ", "", "", "", "sto!", ""}));
}

TEST(TextStream, ControlTokensHaveNoText) {
    TextStream stream(byte_tokenizer(), {256}, {});
    EXPECT_TRUE(stream.push(256));
    EXPECT_TRUE(stream.push('a'));
    EXPECT_EQ(stream.take(), "a");
}

}  // namespace
}  // namespace pastur::test
