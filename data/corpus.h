#pragma once
// Documents out of text and JSONL files.
//
// Text (any name but .jsonl): documents are separated by lines that hold the separator alone, or a file is
// one document; the line breaks around a document do not belong to it. JSONL (.jsonl): one object a line, the
// document in its field `text`. Both may be compressed (byte_source.h). Documents of white space alone are
// skipped. A byte that is not UTF-8 becomes U+FFFD, and the document is counted as repaired.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_source.h"

namespace pastur {

struct CorpusFormat {
    std::string separator = "<|doc|>";
    std::string field = "text";
};

/// A document must fit into memory a few times.
inline constexpr int64_t kMaxDocumentBytes = int64_t{256} << 20;

/// The files that `inputs` name, each once: a file as it is, a folder as the .txt and .jsonl files below it
/// (.gz and .zst of both too), a glob as what it matches; sorted within each input. Throws (kMissingInput)
/// for an input that names none.
std::vector<std::string> corpus_files(const std::vector<std::string>& inputs);

/// Sum of the files' sizes, for progress and sampling.
int64_t total_bytes(const std::vector<std::string>& files);

/// Raw documents of one file, as they came: not parsed, not validated.
struct RawDocuments {
    struct Span {
        size_t begin, size;
        int64_t line;  ///< of its first byte, from 1
    };
    std::shared_ptr<const std::string> path;
    bool json = false;
    std::string bytes;
    std::vector<Span> documents;
};

/// Cuts the files, one after the other, into batches of whole raw documents.
class CorpusReader {
  public:
    CorpusReader(std::vector<std::string> files, const CorpusFormat& format);
    ~CorpusReader();

    /// Fills `batch` with documents of one file, until it holds `target_bytes` or the file ends. False at the
    /// end of the last file. Throws as open_source() and ByteSource::read() do, and (kCorruptData) for a
    /// document over the limit.
    bool next(RawDocuments& batch, int64_t target_bytes);
    /// Gives up the rest of the current file.
    void skip_file();
    /// Compressed bytes read so far, over all files.
    int64_t consumed() const;
    /// Index of the current file; size() of the list before the first and after the last.
    size_t file() const { return file_; }

  private:
    bool open_next();
    bool read_line(std::string& out);
    void read_text(RawDocuments& batch, int64_t target_bytes);
    void read_json(RawDocuments& batch, int64_t target_bytes);
    [[noreturn]] void fail_too_large() const;

    std::vector<std::string> files_;
    CorpusFormat format_;
    size_t opened_ = 0;
    size_t file_;
    std::unique_ptr<ByteSource> source_;
    std::shared_ptr<const std::string> path_;
    bool json_ = false;
    int64_t finished_bytes_ = 0;
    int64_t line_ = 0;
    std::vector<char> block_;
    std::string_view rest_;  ///< of the block
};

struct Document {
    std::string_view text;  ///< valid UTF-8; until the parser's next call
    bool repaired = false;
};

/// Turns raw documents into text. One a thread.
class DocumentParser {
  public:
    explicit DocumentParser(const CorpusFormat& format);
    ~DocumentParser();
    /// Throws (kCorruptData), naming file and line, where JSON is damaged or has no such field.
    /// The bytes of `batch` need kPadding readable bytes behind them, as CorpusReader leaves.
    Document parse(const RawDocuments& batch, const RawDocuments::Span& raw);

  private:
    std::string_view parse_json(const RawDocuments& batch, const RawDocuments::Span& raw);
    struct Json;
    std::unique_ptr<Json> json_;
    std::string field_;
    std::string repaired_;
};

/// `text` with every maximal invalid part replaced by U+FFFD.
std::string repair_utf8(std::string_view text);

}  // namespace pastur
