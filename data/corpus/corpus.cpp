#include "data/corpus/corpus.h"

#include "data/corpus/utf8.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr size_t kBlockBytes = 1 << 20;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

std::string_view trim_line_breaks(std::string_view text) {
    const size_t first = text.find_first_not_of("\r\n");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of("\r\n") - first + 1);
}

/// Bytes of a batch; documents count as well, because they may be empty.
int64_t cost_of(const RawDocuments& batch) {
    return static_cast<int64_t>(batch.bytes.size() + batch.documents.size() * sizeof(RawDocuments::Span));
}

}  // namespace

CorpusReader::CorpusReader(std::vector<std::string> files, const CorpusFormat& format)
    : files_(std::move(files)), format_(format), block_(kBlockBytes) {}

CorpusReader::~CorpusReader() = default;

int64_t CorpusReader::consumed() const {
    return finished_bytes_ + (source_ ? source_->consumed() : 0);
}

void CorpusReader::skip_file() {
    if (source_) finished_bytes_ += source_->consumed();
    source_.reset();
    rest_ = {};
}

bool CorpusReader::open_next() {
    if (opened_ == files_.size()) return false;
    path_ = std::make_shared<const std::string>(files_[opened_++]);
    source_ = open_source(*path_);
    size_t head = 0;
    for (size_t n = 1; n > 0 && head < kHeadBytes; head += n)
        n = source_->read(std::span(block_).subspan(head));
    rest_ = {block_.data(), head};
    json_ = detect_format(*path_, rest_.substr(0, kHeadBytes), format_.format) == DocumentFormat::kJsonLines;
    line_ = 0;
    return true;
}

void CorpusReader::fail_too_large() const {
    const int64_t most = format_.max_document;
    fail(ExitCode::kCorruptData, "{}:{}: document larger than {} (--max-document); {}", *path_, line_,
         most % (1 << 20) == 0 ? fmt::format("{} MiB", most >> 20) : fmt::format("{} bytes", most),
         json_ ? "expected one JSON object a line"
               : fmt::format("expected lines \"{}\" between documents (--separator)", format_.separator));
}

/// Appends one line, without its '\n'. False at the end of the file.
bool CorpusReader::read_line(std::string& out) {
    const size_t before = out.size();
    ++line_;
    for (bool any = false;; any = true) {
        if (rest_.empty()) {
            const size_t n = source_->read(block_);
            if (n == 0) return any;
            rest_ = {block_.data(), n};
        }
        const size_t newline = rest_.find('\n');
        out.append(rest_.substr(0, newline));
        if (static_cast<int64_t>(out.size() - before) > format_.max_document) fail_too_large();
        if (newline != rest_.npos) {
            rest_.remove_prefix(newline + 1);
            return true;
        }
        rest_ = {};
    }
}

void CorpusReader::read_text(RawDocuments& batch, int64_t target_bytes) {
    bool more = true;
    while (more && cost_of(batch) < target_bytes) {
        const size_t begin = batch.bytes.size();
        const int64_t first_line = line_ + 1;
        while (true) {
            const size_t line_begin = batch.bytes.size();
            more = read_line(batch.bytes);
            std::string_view line = std::string_view(batch.bytes).substr(line_begin);
            if (line.ends_with('\r')) line.remove_suffix(1);
            if (!more || line == format_.separator) {
                batch.bytes.resize(line_begin);
                break;
            }
            batch.bytes += '\n';
            if (static_cast<int64_t>(batch.bytes.size() - begin) > format_.max_document) fail_too_large();
        }
        batch.documents.push_back({begin, batch.bytes.size() - begin, first_line});
    }
    if (!more) skip_file();
}

void CorpusReader::read_json(RawDocuments& batch, int64_t target_bytes) {
    while (cost_of(batch) < target_bytes) {
        const size_t begin = batch.bytes.size();
        if (!read_line(batch.bytes)) return skip_file();
        batch.documents.push_back({begin, batch.bytes.size() - begin, line_});
    }
}

bool CorpusReader::next(RawDocuments& batch, int64_t target_bytes) {
    if (!source_ && !open_next()) return false;
    batch.path = path_;
    batch.file = opened_ - 1;
    batch.json = json_;
    batch.bytes.clear();
    batch.documents.clear();
    json_ ? read_json(batch, target_bytes) : read_text(batch, target_bytes);
    batch.bytes.reserve(batch.bytes.size() + kJsonPadding);
    return true;
}

DocumentParser::DocumentParser(const CorpusFormat& format) : json_(format.field) {}

Document DocumentParser::parse(const RawDocuments& batch, const RawDocuments::Span& raw) {
    std::string_view text = std::string_view(batch.bytes).substr(raw.begin, raw.size);
    if (raw.line == 1 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    if (batch.json) {
        if (text.find_first_not_of(" \t\r") == text.npos) return {};
        const JsonText json = json_.parse(text);
        if (json.problem.empty()) return {json.text, json.repaired};
        return {{}, false, fmt::format("{}:{}: {}", *batch.path, raw.line, json.problem)};
    }
    text = trim_line_breaks(text);
    if (is_utf8(text)) return {text};
    repaired_ = repair_utf8(text);
    return {repaired_, true};
}

}  // namespace pastur
