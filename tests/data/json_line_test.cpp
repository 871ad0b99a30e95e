// One line of JSON: the text field must be right, the rest need not be.
#include "data/corpus/json_line.h"

#include <gtest/gtest.h>

namespace pastur {
namespace {

/// The text of a line, or "! " and the problem; "~ " in front of a repaired one.
std::string read(std::string line, const std::string& field = "text") {
    JsonLineParser parser(field);
    line.reserve(line.size() + kJsonPadding);
    const JsonText result = parser.parse(line);
    if (!result.problem.empty()) return "! " + result.problem;
    return (result.repaired ? "~ " : "") + std::string(result.text);
}

TEST(JsonLine, ReadsTheField) {
    EXPECT_EQ(read(R"({"id": 1, "text": "caf\u00e9 \"x\"\n", "meta": {"text": 2}})"), "caf\u00e9 \"x\"\n");
    EXPECT_EQ(read(R"({"text": "\ud83d\ude00"})"), "\U0001F600");
    EXPECT_EQ(read(R"({"text": "no", "content": "yes"})", "content"), "yes");
    EXPECT_EQ(read(R"({"text": "first", "text": "second"})"), "first");
    EXPECT_EQ(read(R"({"text": ""})"), "");
}

// The same lines with something in them that JSON does not allow, so the scanner reads them.
TEST(JsonLine, TheScannerReadsAsSimdjsonDoes) {
    for (const std::string text : {R"(plain)", R"()", R"(a\"b\\c\/d\b\f\n\r\t)",
                                   R"(\u0041\u00e9\u20ac\uFFFD\ud83d\ude00)", "caf\u00e9 \U0001F600"}) {
        const std::string valid =
            read("{\"a\": [{\"text\": \"}]\"}, 1.5e3, null], \"text\": \"" + text + "\"}");
        EXPECT_EQ(read("{\"a\": [{\"text\": \"}]\"}, NaN, null], \"text\": \"" + text + "\"}"), valid);
        EXPECT_EQ(read("{\"text\" :\t\"" + text + "\" , \"b\": -Infinity}  "), valid);
        EXPECT_EQ(read("{\"t\\u0065xt\":\"" + text + "\",\"b\":1e999}"), valid);
    }
}

TEST(JsonLine, IsLenientAboutTheRest) {
    EXPECT_EQ(read(R"({"score": NaN, "text": "a"})"), "a");
    EXPECT_EQ(read(R"({"text": "a", "score": -Infinity, "n": 123456789012345678901234567890})"), "a");
    EXPECT_EQ(read("{\"url\": \"\xff\xfe\", \"text\": \"a\"}"), "a");
    EXPECT_EQ(read(R"({"title": "\ud800", "text": "a"})"), "a");
    EXPECT_EQ(read("{\"deep\": " + std::string(3000, '[') + std::string(3000, ']') + ", \"text\": \"a\"}"),
              "a");
}

TEST(JsonLine, RepairsTheText) {
    EXPECT_EQ(read(R"({"text": "a\ud800b"})"), "~ a\ufffdb") << "a lone surrogate";
    EXPECT_EQ(read(R"({"text": "\udc00\ud83d\ude00"})"), "~ \ufffd\U0001F600");
    EXPECT_EQ(read(R"({"text": "\ud83dA\u0042"})"), "~ \ufffdAB");
    EXPECT_EQ(read(R"({"text": "\ud83d\u0041"})"), "~ \ufffdA");
    EXPECT_EQ(read("{\"text\": \"b\xff"
                   "d\"}"),
              "~ b\ufffdd");
}

TEST(JsonLine, SaysWhyThereIsNoText) {
    const auto refuses = [](const std::string& line, const std::string& part) {
        const std::string result = read(line);
        EXPECT_TRUE(result.starts_with("! ")) << line << " gave " << result;
        EXPECT_NE(result.find(part), std::string::npos) << result;
    };
    for (const char* line :
         {"{\"text\": \"cut", "{\"text\": \"a\"} {\"text\": \"b\"}", "{\"text\": \"a\", \"b\": [1, 2}",
          "{\"text\": \"a\"", "[\"text\"]", "\"text\"", "plain text", "{\"text\": \"\\x\"}",
          "{\"text\": \"\\u00g0\"}", "{\"text\"}", "{text: \"a\"}", "{\"text\": }", "{\"text\": \"a\",}"})
        refuses(line, "not a JSON object");
    refuses("{\"text\": 7}", "a string in field \"text\"");
    refuses("{\"text\": null, \"b\": NaN}", "a string in field \"text\"");
    refuses("{\"content\": \"a\", \"n\": 1, \"u\\u0007rl\": \"b\"}",
            "a field \"text\"; --field takes another, here: content, u?rl");
    refuses("{}", "a field \"text\"");
}

TEST(JsonLine, TellsAnObjectFromOtherThings) {
    EXPECT_TRUE(is_json_object(" {\"a\": {\"b\": [1, \"}\"]}} "));
    EXPECT_TRUE(is_json_object("{}"));
    EXPECT_FALSE(is_json_object("{\"a\": 1"));
    EXPECT_FALSE(is_json_object("{\"a\": 1} 2"));
    EXPECT_FALSE(is_json_object(""));
}

// Lines above 1 MiB are read by the scanner alone.
TEST(JsonLine, LongLinesReadAsShortOnes) {
    const std::string start = R"({"id": [1, {"text": "inner"}], "text": "a\u00e9\n)",
                      end = R"(", "text": "second"})";
    JsonLineParser parser("text");
    for (const size_t length : {10, 2 << 20}) {
        std::string line = start + std::string(length, 'x') + end;
        const size_t size = line.size();
        line.resize(size + kJsonPadding);
        const JsonText text = parser.parse(std::string_view(line).substr(0, size));
        EXPECT_EQ(text.problem, "");
        EXPECT_FALSE(text.repaired);
        EXPECT_TRUE(text.text == "a\xc3\xa9\n" + std::string(length, 'x')) << length;
    }
}

}  // namespace
}  // namespace pastur
