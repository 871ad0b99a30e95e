#include "data/corpus.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <unordered_set>

#include "data/files.h"
#include "kernels/base/error.h"

namespace fs = std::filesystem;

namespace pastur {
namespace {

constexpr size_t kBlockBytes = 1 << 20;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

std::string_view without_compression_suffix(std::string_view path) {
    for (const std::string_view suffix : {".gz", ".zst"})
        if (path.ends_with(suffix)) path.remove_suffix(suffix.size());
    return path;
}

bool is_json(std::string_view path) {
    return without_compression_suffix(path).ends_with(".jsonl");
}

bool is_corpus_name(std::string_view path) {
    return is_json(path) || without_compression_suffix(path).ends_with(".txt");
}

std::vector<std::string> files_below(const std::string& folder) {
    std::vector<std::string> files;
    std::error_code error;
    constexpr auto kOptions = fs::directory_options::follow_directory_symlink;
    for (fs::recursive_directory_iterator it(folder, kOptions, error), end; !error && it != end;
         it.increment(error))
        if (it->is_regular_file(error) && is_corpus_name(it->path().native())) files.push_back(it->path());
    if (error) fail(ExitCode::kIo, "cannot list {}: {}", folder, error.message());
    std::sort(files.begin(), files.end());
    return files;
}

std::string_view trim_line_breaks(std::string_view text) {
    const size_t first = text.find_first_not_of("\r\n");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of("\r\n") - first + 1);
}

}  // namespace

std::vector<std::string> corpus_files(const std::vector<std::string>& inputs) {
    std::vector<std::string> files;
    std::unordered_set<std::string> seen;
    const auto add = [&](const std::string& path) {
        if (seen.insert(path).second) files.push_back(path);
    };
    for (const std::string& input : inputs) {
        const std::vector<std::string> paths = expand_paths(input);
        if (paths.empty()) fail(ExitCode::kMissingInput, "no such file, folder or glob: {}", input);
        bool found = false;
        for (const std::string& path : paths) {
            const std::vector<std::string> here =
                fs::is_directory(path) ? files_below(path) : std::vector{path};
            std::for_each(here.begin(), here.end(), add);
            found |= !here.empty();
        }
        if (!found)
            fail(ExitCode::kMissingInput, "{}: no .txt or .jsonl file (plain, .gz or .zst) below it", input);
    }
    return files;
}

int64_t total_bytes(const std::vector<std::string>& files) {
    int64_t total = 0;
    for (const std::string& path : files) {
        std::error_code error;
        const auto size = fs::file_size(path, error);  // a pipe has none
        if (!error) total += static_cast<int64_t>(size);
    }
    return total;
}

CorpusReader::CorpusReader(std::vector<std::string> files, const CorpusFormat& format)
    : files_(std::move(files)), format_(format), file_(files_.size()), block_(kBlockBytes) {}

CorpusReader::~CorpusReader() = default;

int64_t CorpusReader::consumed() const {
    return finished_bytes_ + (source_ ? source_->consumed() : 0);
}

void CorpusReader::skip_file() {
    if (source_) finished_bytes_ += source_->consumed();
    source_.reset();
    rest_ = {};
    file_ = files_.size();
}

bool CorpusReader::open_next() {
    if (opened_ == files_.size()) return false;
    file_ = opened_++;
    source_ = open_source(files_[file_]);
    path_ = std::make_shared<const std::string>(files_[file_]);
    json_ = is_json(*path_);
    line_ = 0;
    return true;
}

void CorpusReader::fail_too_large() const {
    fail(ExitCode::kCorruptData, "{}:{}: document larger than {} MiB; {}", *path_, line_,
         kMaxDocumentBytes >> 20,
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
        if (static_cast<int64_t>(out.size() - before) > kMaxDocumentBytes) fail_too_large();
        if (newline != rest_.npos) {
            rest_.remove_prefix(newline + 1);
            return true;
        }
        rest_ = {};
    }
}

void CorpusReader::read_text(RawDocuments& batch, int64_t target_bytes) {
    bool more = true;
    while (more && static_cast<int64_t>(batch.bytes.size()) < target_bytes) {
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
            if (static_cast<int64_t>(batch.bytes.size() - begin) > kMaxDocumentBytes) fail_too_large();
        }
        batch.documents.push_back({begin, batch.bytes.size() - begin, first_line});
    }
    if (!more) skip_file();
}

void CorpusReader::read_json(RawDocuments& batch, int64_t target_bytes) {
    while (static_cast<int64_t>(batch.bytes.size()) < target_bytes) {
        const size_t begin = batch.bytes.size();
        if (!read_line(batch.bytes)) return skip_file();
        batch.documents.push_back({begin, batch.bytes.size() - begin, line_});
    }
}

bool CorpusReader::next(RawDocuments& batch, int64_t target_bytes) {
    if (!source_ && !open_next()) return false;
    batch.path = path_;
    batch.json = json_;
    batch.bytes.clear();
    batch.documents.clear();
    json_ ? read_json(batch, target_bytes) : read_text(batch, target_bytes);
    batch.bytes.reserve(batch.bytes.size() + simdjson::SIMDJSON_PADDING);
    return true;
}

struct DocumentParser::Json {
    simdjson::dom::parser parser{static_cast<size_t>(kMaxDocumentBytes) + 1};
};

DocumentParser::DocumentParser(const CorpusFormat& format) : json_(new Json), field_(format.field) {}
DocumentParser::~DocumentParser() = default;

std::string_view DocumentParser::parse_json(const RawDocuments& batch, const RawDocuments::Span& raw) {
    const auto where = [&] { return fmt::format("{}:{}", *batch.path, raw.line); };
    simdjson::dom::element object;
    constexpr bool kCopyForPadding = false;
    const auto error =
        json_->parser.parse(batch.bytes.data() + raw.begin, raw.size, kCopyForPadding).get(object);
    if (error)
        fail(ExitCode::kCorruptData, "{}: not a JSON object: {}", where(), simdjson::error_message(error));
    std::string_view text;
    if (const auto missing = object[field_].get(text)) {
        fail(ExitCode::kCorruptData, "{}: expected an object with a string \"{}\": {}", where(), field_,
             simdjson::error_message(missing));
    }
    return text;
}

Document DocumentParser::parse(const RawDocuments& batch, const RawDocuments::Span& raw) {
    std::string_view text = std::string_view(batch.bytes).substr(raw.begin, raw.size);
    if (raw.line == 1 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    if (batch.json) {
        const bool blank = text.find_first_not_of(" \t\r") == text.npos;
        const size_t skipped = raw.size - text.size();
        return {blank ? std::string_view{} : parse_json(batch, {raw.begin + skipped, text.size(), raw.line})};
    }
    text = trim_line_breaks(text);
    if (simdjson::validate_utf8(text.data(), text.size())) return {text};
    repaired_ = repair_utf8(text);
    return {repaired_, true};
}

}  // namespace pastur
