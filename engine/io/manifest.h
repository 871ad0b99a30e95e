#pragma once
// MANIFEST.json: size and XXH3 of every file in a folder and of every tensor in its safetensors files. It shows
// that a checkpoint is damaged before the checkpoint is read, and names the damaged file and tensor.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pastur {

inline constexpr const char* kManifestName = "MANIFEST.json";

/// Hashes every regular file of the folder, but not of folders inside, and writes and fsyncs its MANIFEST.json,
/// which ends with its own hash. Throws (kIo), and (kCorruptData) for a .safetensors file that is not one.
void write_manifest(const std::filesystem::path& folder);

/// A file that a manifest lists, and its condition.
struct FileReport {
    std::string name;
    uint64_t bytes = 0;   ///< as listed
    size_t tensors = 0;   ///< number of tensors listed with a hash
    std::string problem;  ///< the path and the damage in one line; empty: every byte is as listed
};

/// Reads every byte of the listed files. Throws (kCorruptData) if the manifest is missing, damaged, of another
/// version or not a manifest, or if the folder holds anything that it does not list; (kMissingInput) if the
/// folder does not exist; (kIo).
std::vector<FileReport> inspect_manifest(const std::filesystem::path& folder);

/// Calls inspect_manifest() and throws (kCorruptData) the first problem.
void verify_manifest(const std::filesystem::path& folder);

/// XXH3 (128 bits) of a file, as 32 hexadecimal digits.
std::string hash_file(const std::filesystem::path& file);

}  // namespace pastur
