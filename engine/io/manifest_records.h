#pragma once
// The records of a checkpoint's MANIFEST.json.
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace pastur {

inline constexpr int kManifestVersion = 2;

struct TensorRecord {
    std::string name;
    uint64_t begin = 0, bytes = 0;  ///< in the file
    std::string hash;
};

struct FileRecord {
    uint64_t bytes = 0;
    std::string hash;
    std::vector<TensorRecord> tensors;  ///< in the order of the file; empty unless it is a safetensors file
};
using ManifestRecords = std::map<std::string, FileRecord>;  ///< by file name

void sort_by_position(std::vector<TensorRecord>& tensors);

/// {"version": 2, "files": {name: {"bytes": n, "xxh3_128": "...", "tensors": {name: {"begin": n, "bytes": n,
/// "xxh3_128": "..."}}}}, "xxh3_128": "..."}, the last being the seal, the hash of the text before it.
std::string manifest_text(const ManifestRecords& records);

/// Reads such a file of at most 16 MiB. Values go straight into the records, so memory is at most about six times the
/// text. Throws (kCorruptData) for anything else: another version (version 1 had no seal, so damage to it stays
/// unnoticed), a wrong seal, names with a folder in them, which could point outside the checkpoint, tensors that are
/// not consecutive up to the end of their file.
ManifestRecords read_manifest(const std::filesystem::path& manifest);

}  // namespace pastur
