#pragma once
// Documents out of text and JSON lines.
//
// Text: documents are separated by lines that hold the separator alone, or a file is one document; the line
// breaks around a document do not belong to it. JSON lines: one object a line, the document in its string
// field `text`. The content of a file decides which (content_format.h); both may be compressed
// (byte_source.h). A text that is not UTF-8 is repaired with U+FFFD and counted.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/byte_source.h"
#include "data/corpus/content_format.h"
#include "data/corpus/json_line.h"

namespace pastur {

/// The largest CorpusFormat::max_document.
inline constexpr int64_t kLargestDocument = int64_t{4} << 30;

struct CorpusFormat {
    DocumentFormat format = DocumentFormat::kAuto;
    std::string separator = "<|doc|>";
    std::string field = "text";
    /// Bytes of the longest document, or of the longest line of JSON. Memory must hold a few of them.
    int64_t max_document = int64_t{256} << 20;
};

/// Documents of one file as they came: neither parsed nor validated.
struct RawDocuments {
    struct Span {
        size_t begin, size;
        int64_t line;  ///< of its first byte, from 1
    };
    std::shared_ptr<const std::string> path;
    size_t file = 0;  ///< index of the path among the reader's files
    bool json = false;
    std::string bytes;
    std::vector<Span> documents;
};

/// Cuts the files, one after the other, into batches of whole raw documents.
class CorpusReader {
  public:
    CorpusReader(std::vector<std::string> files, const CorpusFormat& format);
    ~CorpusReader();

    /// Fills `batch` with documents of one file, until it takes `target_bytes` or the file ends. False at the
    /// end of the last file. Throws as open_source(), ByteSource::read() and detect_format() do, and
    /// (kCorruptData) for a document over the limit.
    bool next(RawDocuments& batch, int64_t target_bytes);
    /// Gives up what next() has not read yet of the current file.
    void skip_file();
    /// Compressed bytes read so far, over all files.
    int64_t consumed() const;

  private:
    bool open_next();
    bool read_line(std::string& out);
    void read_text(RawDocuments& batch, int64_t target_bytes);
    void read_json(RawDocuments& batch, int64_t target_bytes);
    [[noreturn]] void fail_too_large() const;

    std::vector<std::string> files_;
    CorpusFormat format_;
    size_t opened_ = 0;  ///< files so far; the last one is current while source_ is there
    std::unique_ptr<ByteSource> source_;
    std::shared_ptr<const std::string> path_;
    bool json_ = false;
    int64_t finished_bytes_ = 0;
    int64_t line_ = 0;
    std::vector<char> block_;
    std::string_view rest_;  ///< the part of the block that is not read yet
};

struct Document {
    std::string_view text = {};  ///< valid UTF-8; until the parser's next call. Empty for a blank line
    bool repaired = false;       ///< held something that is not UTF-8
    std::string problem = {};    ///< why the line has no text, with file and line; empty when it has

    bool is_blank() const { return text.find_first_not_of(" \t\r\n\v\f") == text.npos; }
};

/// Turns raw documents into text. One a thread.
class DocumentParser {
  public:
    explicit DocumentParser(const CorpusFormat& format);
    /// The bytes of `batch` need kJsonPadding readable bytes behind them, as CorpusReader leaves.
    Document parse(const RawDocuments& batch, const RawDocuments::Span& raw);

  private:
    JsonLineParser json_;
    std::string repaired_;
};

}  // namespace pastur
