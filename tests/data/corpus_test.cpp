// Documents out of text and JSONL, plain and compressed.
#include "data/corpus.h"

#include <gtest/gtest.h>

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
        fs::create_directories(path.parent_path());
        write_bytes(path, bytes);
        return path;
    }
    /// All documents that are not empty.
    Texts read(const std::vector<std::string>& inputs, int64_t batch_bytes = 1 << 16) {
        CorpusReader reader(corpus_files(inputs), format_);
        DocumentParser parser(format_);
        RawDocuments batch;
        Texts texts;
        repaired_ = 0;
        while (reader.next(batch, batch_bytes))
            for (const RawDocuments::Span& raw : batch.documents) {
                const Document document = parser.parse(batch, raw);
                repaired_ += document.repaired;
                if (!document.text.empty()) texts.emplace_back(document.text);
            }
        return texts;
    }
    Texts read_text(std::string_view bytes) { return read({put("in.txt", bytes)}); }

    test::TempFolder folder_;
    CorpusFormat format_;
    int repaired_ = 0;
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
    const auto refuses = [&](const std::string& line, std::initializer_list<std::string> parts) {
        const std::string path =
            put("bad.jsonl", "{\"text\": \"fine\"}\n\n" + line + "\n{\"text\": \"fine\"}\n");
        SCOPED_TRACE(line);
        expect_error(ExitCode::kCorruptData, {"bad.jsonl:3"}, [&] { read({path}); });
        expect_error(ExitCode::kCorruptData, parts, [&] { read({path}); });
    };
    refuses("{\"text\": \"cut", {"not a JSON object"});
    refuses("{\"text\": \"a\"} {\"text\": \"b\"}", {"not a JSON object"});
    refuses("{\"text\": \"a\", \"more\": [1, 2}", {"not a JSON object"});
    refuses("{\"body\": \"a\"}", {"\"text\""});
    refuses("{\"text\": 7}", {"\"text\""});
    refuses("[\"text\"]", {"\"text\""});
    refuses("\"text\"", {"\"text\""});
    refuses("{\"text\": \"\xff\"}", {"not a JSON object"});
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
    expect_error(ExitCode::kCorruptData, {"compressed with xz", "gzip or Zstandard"}, [&] {
        read({put("a.txt", std::string("\xfd"
                                       "7zXZ\0rest",
                                       10))});
    });
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

TEST_F(Corpus, FindsFiles) {
    put("tree/b.txt", "b");
    put("tree/a.jsonl.gz", test::gzip("{\"text\":\"a\"}"));
    put("tree/deep/er/c.txt.zst", test::zstd("c"));
    put("tree/readme.md", "not this");
    put("tree/d.txt.bak", "nor this");
    const std::string root = folder_.path();
    EXPECT_EQ(read({root + "/tree"}), (Texts{"a", "b", "c"}));
    EXPECT_EQ(read({root + "/tree/*.txt", root + "/tree"}), (Texts{"b", "a", "c"})) << "each file once";
    EXPECT_EQ(read({root + "/tree/readme.md"}), (Texts{"not this"})) << "named by the user";
    EXPECT_EQ(read({root + "/tree/{b,d}.txt*"}), (Texts{"b", "nor this"}));
    expect_error(ExitCode::kMissingInput, {"nowhere"}, [&] { read({root + "/nowhere.txt"}); });
    expect_error(ExitCode::kMissingInput, {"*.csv"}, [&] { read({root + "/tree/*.csv"}); });
    fs::create_directory(folder_.path() / "empty");
    expect_error(ExitCode::kMissingInput, {"empty", ".jsonl"}, [&] { read({root + "/empty"}); });
}

TEST_F(Corpus, KeepsFilesApart) {
    const std::string a = put("a.txt", "one\n<|doc|>\ntwo"), b = put("b.txt", "three");
    EXPECT_EQ(read({a, b}), (Texts{"one", "two", "three"}));
    EXPECT_EQ(read({b, a}), (Texts{"three", "one", "two"}));
}

}  // namespace
}  // namespace pastur
