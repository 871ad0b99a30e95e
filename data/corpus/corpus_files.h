#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace pastur {

/// The files that `inputs` name, each once, whatever names lead to it: a file as it is, a folder as the .txt,
/// .text, .json, .jsonl and .ndjson files below it (also in .gz and .zst), a pattern as what it matches.
/// Files below a folder are sorted by path; those and folders whose names begin with a dot are passed over,
/// links are followed, and each folder is read once. Throws (kMissingInput) for an input that names no file
/// and for a link to nothing, and (kIo).
std::vector<std::string> corpus_files(const std::vector<std::string>& inputs);

/// Sum of the files' sizes; a pipe has none.
int64_t total_bytes(const std::vector<std::string>& files);

}  // namespace pastur
