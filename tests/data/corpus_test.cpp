// Documents out of text and JSON lines, plain and compressed.
#include "data/corpus/corpus.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zstd.h>

#include "data/corpus/text_output.h"
#include "data/corpus/utf8.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::write_bytes;
using Texts = std::vector<std::string>;

class Corpus : public testing::Test {
  protected:
    std::string put(const std::string& name, std::string_view bytes) {
        const fs::path path = folder_.path() / name;
        write_bytes(path, bytes);
        return path;
    }
    /// All documents that are not empty. The problems of lines without text go to problems_.
    Texts read(const std::vector<std::string>& files, int64_t batch_bytes = 1 << 16) {
        CorpusReader reader(files, format_);
        DocumentParser parser(format_);
        RawDocuments batch;
        Texts texts;
        repaired_ = 0;
        problems_.clear();
        while (reader.next(batch, batch_bytes))
            for (const RawDocuments::Span& raw : batch.documents) {
                const Document document = parser.parse(batch, raw);
                repaired_ += document.repaired;
                if (!document.problem.empty()) problems_.push_back(document.problem);
                if (!document.text.empty()) texts.emplace_back(document.text);
            }
        return texts;
    }
    Texts read_text(std::string_view bytes) { return read({put("in.txt", bytes)}); }

    test::TempFolder folder_;
    CorpusFormat format_;
    int repaired_ = 0;
    Texts problems_;
};

TEST_F(Corpus, SeparatesTextAtSeparatorLines) {
    EXPECT_EQ(read_text("one\n\ntwo\n<|doc|>\nthree <|doc|>\n <|doc|>\n<|doc|>\nfour"),
              (Texts{"one\n\ntwo", "three <|doc|>\n <|doc|>", "four"}));
    EXPECT_EQ(read_text("\n\none\n\n<|doc|>\n\n\n<|doc|>\n"), (Texts{"one"}));
    EXPECT_EQ(read_text("a\r\nb\r\n<|doc|>\r\nc\r\n"), (Texts{"a\r\nb", "c"}));
    EXPECT_EQ(read_text("  indented\n"), (Texts{"  indented"}));
    EXPECT_EQ(read_text(""), Texts{});
    EXPECT_EQ(read_text("<|doc|>"), Texts{});
    format_.separator = "----";
    EXPECT_EQ(read_text("a\n----\nb\n<|doc|>\n"), (Texts{"a", "b\n<|doc|>"}));
}

TEST_F(Corpus, SkipsAByteOrderMark) {
    EXPECT_EQ(read_text("\xef\xbb\xbfone\n"), (Texts{"one"}));
    EXPECT_EQ(read({put("a.jsonl", "\xef\xbb\xbf{\"text\":\"one\"}\n")}), (Texts{"one"}));
}

TEST_F(Corpus, ReadsJsonLines) {
    const std::string path =
        put("a.jsonl",
            "{\"id\": 1, \"text\": \"caf\\u00e9 \\\"x\\\"\\n\", \"meta\": {\"text\": 2}}\n"
            "\n"
            "  {\"text\": \"\"}\r\n"
            "{\"text\": \"\\ud83d\\ude00 two\"}");
    EXPECT_EQ(read({path}), (Texts{"caf\u00e9 \"x\"\n", "\U0001F600 two"}));
    format_.field = "content";
    EXPECT_EQ(read({put("b.jsonl", "{\"text\": \"no\", \"content\": \"yes\"}\n")}), (Texts{"yes"}));
}

TEST_F(Corpus, NamesTheBrokenLine) {
    const std::string path = put("bad.jsonl",
                                 "{\"text\": \"fine\"}\n\n{\"text\": 7}\n{\"text\": NaN}\nbroken\n"
                                 "{\"text\": \"lone \\ud800\", \"score\": NaN}\n");
    EXPECT_EQ(read({path}), (Texts{"fine", "lone \ufffd"}));
    EXPECT_EQ(repaired_, 1);
    ASSERT_EQ(problems_.size(), 3u);
    EXPECT_EQ(problems_[0], path + ":3: expected a string in field \"text\"");
    EXPECT_EQ(problems_[1], path + ":4: expected a string in field \"text\"");
    EXPECT_EQ(problems_[2], path + ":5: not a JSON object on one line");
}

// The content decides; --format overrides it.
TEST_F(Corpus, ReadsJsonLinesUnderAnyName) {
    const std::string json = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    for (const char* name : {"a.json", "a.ndjson", "a.JSONL", "a.txt", "noname"})
        EXPECT_EQ(read({put(name, json)}), (Texts{"one", "two"})) << name;
    EXPECT_EQ(read({put("c4.json.gz", test::gzip(json))}), (Texts{"one", "two"}));
    EXPECT_EQ(read({put("c4.json.zst", test::zstd(json))}), (Texts{"one", "two"}));
    format_.format = DocumentFormat::kText;
    EXPECT_EQ(read({put("a.jsonl", "{\"text\": \"one\"}\n")}), (Texts{"{\"text\": \"one\"}"}));
    format_.format = DocumentFormat::kJsonLines;
    EXPECT_EQ(read({put("a.txt", "one\n")}), Texts{});
    EXPECT_EQ(problems_.size(), 1u);
}

TEST_F(Corpus, ReadsAPipe) {
    const std::string path = folder_.path() / "pipe";
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    const std::string writer =
        "for i in 1 2 3; do echo '{\"text\": \"'$i'\"}'; sleep 0.05; done > '" + path + "' &";
    ASSERT_EQ(std::system(writer.c_str()), 0);
    EXPECT_EQ(read({path}), (Texts{"1", "2", "3"}));
}

TEST_F(Corpus, CompressionChangesNothing) {
    std::string text, json;
    Texts expected;
    for (int i = 0; i < 3000; ++i) {
        expected.push_back("Document " + std::to_string(i) + "\nhas " + std::string(i % 97, 'x') + " in it.");
        text += expected.back() + "\n<|doc|>\n";
        json += "{\"text\":\"Document " + std::to_string(i) + "\\nhas " + std::string(i % 97, 'x') +
                " in it.\"}\n";
    }
    const std::string half = text.substr(0, text.size() / 2), rest = text.substr(text.size() / 2);
    for (const int64_t batch : {1, 1000, 1 << 20}) {
        EXPECT_EQ(read({put("a.txt", text)}, batch), expected);
        EXPECT_EQ(read({put("a.txt.gz", test::gzip(text))}, batch), expected);
        EXPECT_EQ(read({put("a.txt.zst", test::zstd(text))}, batch), expected);
        EXPECT_EQ(read({put("b.txt.gz", test::gzip(half) + test::gzip(rest))}, batch), expected);
        EXPECT_EQ(read({put("b.txt.zst", test::zstd(half) + test::zstd(rest))}, batch), expected);
        EXPECT_EQ(read({put("a.jsonl", json)}, batch), expected);
        EXPECT_EQ(read({put("a.jsonl.gz", test::gzip(json))}, batch), expected);
        EXPECT_EQ(read({put("a.jsonl.zst", test::zstd(json))}, batch), expected);
    }
    EXPECT_EQ(read({put("misnamed.txt", test::gzip(text))}), expected) << "the content decides";
}

TEST_F(Corpus, RefusesDamagedStreams) {
    const std::string text(200'000, 'a');
    for (const bool gz : {true, false}) {
        const std::string name = gz ? "a.txt.gz" : "a.txt.zst";
        const std::string good = gz ? test::gzip(text) : test::zstd(text);
        expect_error(ExitCode::kCorruptData, {name, "cut short"},
                     [&] { read({put(name, std::string_view(good).substr(0, good.size() - 5))}); });
        expect_error(ExitCode::kCorruptData, {name, "damaged"}, [&] { read({put(name, good + "garbage")}); });
        std::string flipped = good;
        flipped[gz ? flipped.size() - 6 : 4] ^= '\x5f';  // checksum; frame header
        expect_error(ExitCode::kCorruptData, {name}, [&] { read({put(name, flipped)}); });
        expect_error(ExitCode::kCorruptData, {name, "neither"}, [&] { read({put(name, "plain text")}); });
    }
    expect_error(ExitCode::kCorruptData, {"a.txt", "Parquet"},
                 [&] { read({put("a.txt", "PAR1 and so on")}); });
    expect_error(ExitCode::kCorruptData, {"a.txt.gz", "zip"},
                 [&] { read({put("a.txt.gz", test::gzip("PK\x03\x04 and so on"))}); });
}

TEST_F(Corpus, ReadsGzipWithZerosBehind) {
    const std::string zeros(100'000, '\0'), one = test::gzip("one\n"), two = test::gzip("two\n");
    EXPECT_EQ(read({put("a.txt.gz", one + zeros)}), (Texts{"one"}));
    EXPECT_EQ(read({put("a.txt.gz", one + zeros + two + std::string(7, '\0'))}), (Texts{"one\ntwo"}));
    expect_error(ExitCode::kCorruptData, {"damaged"},
                 [&] { read({put("a.txt.gz", one + zeros + "not gzip")}); });
}

// The header of a frame of `zstd --long=31`: a window of 2^31 bytes. Then one raw block.
TEST_F(Corpus, ReadsZstandardWithLongWindows) {
    const std::string text = "one\n";
    for (const int window_log : {28, 31}) {
        std::string frame = "\x28\xb5\x2f\xfd";
        frame += '\0';
        frame += static_cast<char>((window_log - 10) << 3);
        const uint32_t block = static_cast<uint32_t>(text.size()) << 3 | 1;
        frame += {static_cast<char>(block), static_cast<char>(block >> 8), static_cast<char>(block >> 16)};
        EXPECT_EQ(read({put("a.txt.zst", frame + text)}), (Texts{"one"})) << window_log;
    }
}

TEST_F(Corpus, ReadsBackWhatIsWrittenCompressed) {
    std::string text;
    for (int i = 0; i < 50'000; ++i) text += "line " + std::to_string(i * 7919) + "\n";
    for (const char* name : {"a.txt", "a.txt.gz", "a.txt.zst"}) {
        const fs::path path = folder_.path() / name;
        TextOutput out(path);
        for (size_t at = 0; at < text.size(); at += 9999) out.write(std::string_view(text).substr(at, 9999));
        EXPECT_FALSE(fs::exists(path));
        out.commit();
        EXPECT_EQ(read({path}), (Texts{text.substr(0, text.size() - 1)})) << name;
        EXPECT_EQ(fs::file_size(path) < text.size() / 2, path.extension() != ".txt") << name;
    }
}

TEST_F(Corpus, RepairsWhatIsNotUtf8) {
    EXPECT_EQ(read_text("good \xc3\xa9\n<|doc|>\nbad \xff end\n"), (Texts{"good \u00e9", "bad \ufffd end"}));
    EXPECT_EQ(repaired_, 1);
    // One replacement for each maximal part that could have begun a character (the Unicode Standard's
    // advice).
    EXPECT_EQ(repair_utf8("\xf0\x9f\x98x"), "\ufffdx");
    EXPECT_EQ(repair_utf8("\xe2\x82"), "\ufffd");
    EXPECT_EQ(repair_utf8("\xc0\xaf"), "\ufffd\ufffd") << "overlong";
    EXPECT_EQ(repair_utf8("\xed\xa0\x80"), "\ufffd\ufffd\ufffd") << "surrogate";
    EXPECT_EQ(repair_utf8("\xf4\x90\x80\x80"), "\ufffd\ufffd\ufffd\ufffd") << "beyond U+10FFFF";
    const std::string valid = "a\u00e9\u20ac\ud7ff\ue000\U0001F600\U0010FFFF";
    EXPECT_EQ(repair_utf8(valid), valid);
}

TEST_F(Corpus, KeepsFilesApart) {
    const std::string a = put("a.txt", "one\n<|doc|>\ntwo"), b = put("b.txt", "three");
    EXPECT_EQ(read({a, b}), (Texts{"one", "two", "three"}));
    EXPECT_EQ(read({b, a}), (Texts{"three", "one", "two"}));
}

// A batch ends although its documents have no bytes.
TEST_F(Corpus, EmptyDocumentsCountInABatch) {
    std::string separators, lines = "{\"text\": \"a\"}\n";
    for (int i = 0; i < 5000; ++i) separators += "<|doc|>\n";
    lines += std::string(5000, '\n');
    for (const std::string& path : {put("a.txt", separators), put("a.jsonl", lines)}) {
        CorpusReader reader({path}, format_);
        RawDocuments batch;
        size_t documents = 0;
        while (reader.next(batch, 1 << 14)) {
            EXPECT_LE(batch.documents.size(), (1u << 14) / sizeof(RawDocuments::Span) + 1);
            documents += batch.documents.size();
        }
        EXPECT_EQ(documents, 5001u) << path;
    }
}

}  // namespace
}  // namespace pastur
