// What a file holds is judged by its first bytes, not by its name.
#include "data/corpus/content_format.h"

#include <gtest/gtest.h>

#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"

namespace pastur {
namespace {

using namespace std::string_view_literals;
using test::expect_error;
constexpr DocumentFormat kAuto = DocumentFormat::kAuto, kText = DocumentFormat::kText,
                         kJson = DocumentFormat::kJsonLines;

TEST(ContentFormat, JsonLinesUnderAnyName) {
    for (const char* name : {"c4-train.00000-of-01024.json.gz", "x.ndjson", "x.JSONL", "x.Json.Zst",
                             "/dev/fd/63", "x.txt", "noname", "x.jsonl"}) {
        SCOPED_TRACE(name);
        EXPECT_EQ(detect_format(name, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n", kAuto), kJson);
        EXPECT_EQ(detect_format(name, "\xef\xbb\xbf\n  {\"text\": \"a\"}", kAuto), kJson);
        EXPECT_EQ(detect_format(name, "{}\n{\"text\": NaN}\n", kAuto), kJson);
        EXPECT_EQ(detect_format(name, "{\"text\": \"" + std::string(kHeadBytes, 'x'), kAuto), kJson)
            << "a long line";
    }
}

TEST(ContentFormat, TextUnderAnyOtherName) {
    for (const char* text : {"Once upon a time", "", "\n\n", "{ int x = 1; }\n", "{", "{\n  return;\n}",
                             "[1] A footnote", "[", "\"quoted\"", "caf\xe9", "{1, 2}"}) {
        SCOPED_TRACE(text);
        EXPECT_EQ(detect_format("x.txt", text, kAuto), kText);
        EXPECT_EQ(detect_format("/dev/fd/63", text, kAuto), kText);
    }
    // A JSON name makes the judgement stricter: the reader reports the line.
    EXPECT_EQ(detect_format("x.jsonl", "Once upon a time", kAuto), kJson);
    EXPECT_EQ(detect_format("x.json.gz", "{\"text\": \"cut", kAuto), kJson);
}

TEST(ContentFormat, OtherJsonIsRefusedWithTheWayOut) {
    const auto refuses = [](const char* name, const char* text, std::initializer_list<std::string> parts) {
        SCOPED_TRACE(text);
        expect_error(ExitCode::kCorruptData, parts, [&] { detect_format(name, text, kAuto); });
    };
    refuses("x.txt", "[{\"text\": \"a\"},\n{\"text\": \"b\"}]", {"x.txt", "array", "jq -c '.[]'"});
    refuses("x.json", "[\"a\", \"b\"]", {"x.json", "array"});
    refuses("x.json", "{\n  \"text\": \"a\"\n}\n", {"several lines", "jq -c ."});
    refuses("pipe", "{\n  \"text\": \"a\"\n}\n", {"several lines"});
    refuses("x.json", "{\n}\n", {"several lines"});
    refuses("x.txt", "{\"text\": \"a\n", {"x.txt", "first line", "--format text"});
    refuses("x.txt", "{\"a\": 1,\n \"b\": 2}", {"first line", "--format jsonl"});
}

TEST(ContentFormat, OtherContentIsRefusedByName) {
    const auto refuses = [](std::string_view head, std::initializer_list<std::string> parts) {
        for (const DocumentFormat given : {kAuto, kText, kJson})
            expect_error(ExitCode::kCorruptData, parts, [&] { detect_format("corpus.txt", head, given); });
    };
    refuses("PAR1\x15\x04\x15", {"corpus.txt", "Parquet", "JSON lines"});
    refuses("ARROW1\0\0"sv, {"Arrow"});
    refuses("PK\x03\x04\x14", {"zip", "unpack"});
    refuses("%PDF-1.7\n", {"PDF", "pdftotext"});
    refuses(
        "\xfd"
        "7zXZ\0rest"sv,
        {"compressed with xz", "gzip or Zstandard"});
    refuses("BZh91AY&SY", {"bzip2"});
    refuses(test::gzip("text"), {"compressed twice"});
    refuses("\xff\xfeh\0i\0"sv, {"UTF-16", "iconv"});
    refuses("\xfe\xff\0h\0i"sv, {"UTF-16"});
    refuses("\xff\xfe\0\0h\0\0\0"sv, {"UTF-32"});
    refuses(test::shard_bytes<uint16_t>({1, 2}), {"token shard", "data.train"});
    refuses(test::shard_bytes<uint32_t>({1, 2}), {"token shard"});
    refuses("version https://git-lfs.github.com/spec/v1\noid sha256:0", {"Git LFS", "git lfs pull"});
    std::string tar(512, '\0');
    tar.replace(0, 5, "a.txt");
    tar.replace(257, 5, "ustar");
    refuses(tar, {"tar", "unpack"});
}

TEST(ContentFormat, BinaryContentIsRefusedUnlessItIsGivenAsText) {
    std::string little, big;
    for (const char c : std::string_view("Once upon a time there was no byte order mark.")) {
        little += std::string{c, '\0'};
        big += std::string{'\0', c};
    }
    expect_error(ExitCode::kCorruptData, {"UTF-16 without", "UTF-16LE"},
                 [&] { detect_format("x", little, kAuto); });
    expect_error(ExitCode::kCorruptData, {"UTF-16 without", "UTF-16BE"},
                 [&] { detect_format("x", big, kAuto); });
    const std::string_view nul = "text\0more text"sv;
    expect_error(ExitCode::kCorruptData, {"binary", "byte 4", "--format text"},
                 [&] { detect_format("x.txt", nul, kAuto); });
    EXPECT_EQ(detect_format("x.txt", nul, kText), kText);
    EXPECT_EQ(detect_format("x.txt", "{\"text\": \"a\"}", kText), kText);
    EXPECT_EQ(detect_format("x.txt", "[1]", kJson), kJson);
}

}  // namespace
}  // namespace pastur
