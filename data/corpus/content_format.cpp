#include "data/corpus/content_format.h"

#include <algorithm>
#include <cctype>
#include <initializer_list>

#include "data/corpus/json_line.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using namespace std::string_view_literals;

constexpr const char* kUnpack = "unpack it and give the folder";
constexpr const char* kRecompress = "expected plain text, gzip or Zstandard";
constexpr const char* kExport = "write its text column as JSON lines, one object a line";
constexpr const char* kConvert16 = "convert it: iconv -f UTF-16 -t UTF-8";
constexpr const char* kConvert32 = "convert it: iconv -f UTF-32 -t UTF-8";
constexpr const char* kShard = "train reads it as it is: give it by data.train";

struct Foreign {
    size_t offset;
    std::string_view magic;
    const char* name;
    const char* way_out;
};
constexpr Foreign kForeign[] = {
    {0, "PAR1"sv, "a Parquet file", kExport},
    {0, "ARROW1"sv, "an Arrow file", kExport},
    {0, "FEA1"sv, "a Feather file", kExport},
    {0, "\x89HDF\r\n"sv, "an HDF5 file", kExport},
    {0, "SQLite format 3\0"sv, "an SQLite database", kExport},
    {0, "\x93NUMPY"sv, "a NumPy array", "expected text or JSON lines"},
    {257, "ustar"sv, "a tar archive", kUnpack},
    {0, "PK\x03\x04"sv, "a zip archive", kUnpack},
    {0, "PK\x05\x06"sv, "an empty zip archive", kUnpack},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive", kUnpack},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "compressed with xz", kRecompress},
    {0, "BZh"sv, "compressed with bzip2", kRecompress},
    {0, "\x04\x22\x4d\x18"sv, "compressed with lz4", kRecompress},
    {0, "\x1f\x8b"sv, "compressed twice", kRecompress},
    {0, "\x28\xb5\x2f\xfd"sv, "compressed twice", kRecompress},
    {0, "%PDF-"sv, "a PDF", "extract its text: pdftotext"},
    {0, "\xff\xfe\0\0"sv, "UTF-32", kConvert32},
    {0, "\0\0\xfe\xff"sv, "UTF-32", kConvert32},
    {0, "\xff\xfe"sv, "UTF-16", kConvert16},
    {0, "\xfe\xff"sv, "UTF-16", kConvert16},
    {0, "\x88\xd8\x34\x01"sv, "a token shard", kShard},
    {0, "\xa1\xd9\x34\x01"sv, "a token shard", kShard},
    {0, "version https://git-lfs.github.com/spec/"sv, "a pointer of Git LFS, not the file",
     "run git lfs pull"},
};

void refuse_foreign(const std::string& path, std::string_view head) {
    for (const Foreign& foreign : kForeign)
        if (head.size() >= foreign.offset && head.substr(foreign.offset).starts_with(foreign.magic))
            fail(ExitCode::kCorruptData, "{}: {}; {}", path, foreign.name, foreign.way_out);
}

void refuse_binary(const std::string& path, std::string_view head) {
    const size_t first = head.find('\0');
    if (first == head.npos) return;
    size_t nuls[2] = {0, 0};
    for (size_t i = first; i < head.size(); ++i) nuls[i % 2] += head[i] == '\0';
    // Most characters of most texts have a high byte of 0.
    const size_t most = std::max(nuls[0], nuls[1]), least = std::min(nuls[0], nuls[1]);
    if (most > head.size() / 4 && least < most / 8)
        fail(ExitCode::kCorruptData,
             "{}: UTF-16 without a byte order mark; convert it: iconv -f UTF-16{} -t UTF-8", path,
             nuls[1] > nuls[0] ? "LE" : "BE");
    fail(ExitCode::kCorruptData,
         "{}: binary data (byte {} is NUL); expected text or JSON lines (--format text reads it as it is)",
         path, first);
}

bool begins_json_lines(const std::string& path, std::string_view head) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf", kSpace = " \t\r\n";
    const bool whole = head.size() < kHeadBytes, named = has_json_name(path);
    if (head.starts_with(kByteOrderMark)) head.remove_prefix(kByteOrderMark.size());
    const auto skip = [](std::string_view text, std::string_view characters) {
        return text.substr(std::min(text.find_first_not_of(characters), text.size()));
    };
    head = skip(head, kSpace);
    if (head.starts_with('[')) {
        if (named || skip(head.substr(1), kSpace).starts_with('{'))
            fail(ExitCode::kCorruptData, "{}: a JSON array; expected one object a line: jq -c '.[]' {}", path,
                 path);
        return false;
    }
    if (!head.starts_with('{')) return named;
    const size_t newline = head.find('\n');
    const std::string_view line = head.substr(0, newline), inside = skip(line.substr(1), " \t\r");
    if (inside.empty()) {
        if (!named && !skip(head.substr(1), kSpace).starts_with('"')) return false;
        fail(ExitCode::kCorruptData, "{}: JSON over several lines; expected one object a line: jq -c . {}",
             path, path);
    }
    if (!inside.starts_with('"') && !inside.starts_with('}')) return named;
    const bool complete = whole || newline != head.npos;
    if (named || !complete || is_json_object(line)) return true;
    fail(ExitCode::kCorruptData,
         "{}: its first line begins like a JSON object but is none; expected text or JSON lines "
         "(--format text or --format jsonl decides)",
         path);
}

/// True when the name, without .gz or .zst, ends in one of `extensions`, in any case.
bool ends_in(std::string_view path, std::initializer_list<std::string_view> extensions) {
    std::string name(path.substr(path.find_last_of('/') + 1));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const std::string_view suffix : {".gz"sv, ".zst"sv})
        if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
    return std::any_of(extensions.begin(), extensions.end(),
                       [&](std::string_view extension) { return name.ends_with(extension); });
}

}  // namespace

DocumentFormat detect_format(const std::string& path, std::string_view head, DocumentFormat given) {
    refuse_foreign(path, head);
    if (given != DocumentFormat::kAuto) return given;
    refuse_binary(path, head);
    return begins_json_lines(path, head) ? DocumentFormat::kJsonLines : DocumentFormat::kText;
}

bool has_json_name(std::string_view path) {
    return ends_in(path, {".json", ".jsonl", ".ndjson"});
}

bool has_text_name(std::string_view path) {
    return ends_in(path, {".txt", ".text"});
}

}  // namespace pastur
