#pragma once
// What a file holds, judged by its first bytes. Its name can only make the judgement stricter.
#include <cstddef>
#include <string>
#include <string_view>

namespace pastur {

enum class DocumentFormat {
    kAuto,       ///< judged by the content of each file
    kText,       ///< documents between separator lines
    kJsonLines,  ///< one JSON object a line
};

/// Bytes of decompressed content that detect_format() looks at.
inline constexpr size_t kHeadBytes = 64 << 10;

/// The format of the file at `path`, whose decompressed content begins with `head`: kHeadBytes of it, or all.
///
/// Content that begins with a JSON object on one line is JSON lines under any name; other content is text,
/// unless the name ends in .json, .jsonl or .ndjson: it is JSON lines then, so the reader reports the line
/// that is not JSON. Throws (kCorruptData), with the way out, for content that is neither: other containers
/// and compressions (Parquet, Arrow, tar, zip, 7z, xz, bzip2, lz4, PDF, HDF5, NumPy, SQLite), UTF-16 and
/// UTF-32, token shards, Git LFS pointers, JSON arrays, JSON over several lines, and, where `given` is kAuto,
/// NUL bytes.
DocumentFormat detect_format(const std::string& path, std::string_view head, DocumentFormat given);

/// True for names in .json, .jsonl or .ndjson, in any case, also with .gz or .zst behind.
bool has_json_name(std::string_view path);
/// True for names in .txt or .text, in any case, also with .gz or .zst behind.
bool has_text_name(std::string_view path);

}  // namespace pastur
