#pragma once
// MANIFEST.json: size and XXH3 of every file in a folder, and of every tensor in its safetensors files, so
// that a damaged checkpoint is recognised before it is read and what is damaged in it is known by name.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pastur {

inline constexpr const char* kManifestName = "MANIFEST.json";

/// Hashes every regular file of the folder (not of folders inside) and writes and fsyncs its MANIFEST.json,
/// which ends in its own hash. Throws (kIo), and (kCorruptData) for a .safetensors file that is none.
void write_manifest(const std::filesystem::path& folder);

/// A file that a manifest lists, and what was found.
struct FileReport {
    std::string name;
    uint64_t bytes = 0;   ///< as listed
    size_t tensors = 0;   ///< listed with a hash of their own
    std::string problem;  ///< the path and what is damaged, in a line; empty: every byte is right
};

/// Reads every byte of the listed files; other files in the folder are nobody's concern. Throws
/// (kCorruptData) for a manifest that is missing, none, or damaged itself; (kMissingInput) when the folder is
/// not there; (kIo).
std::vector<FileReport> inspect_manifest(const std::filesystem::path& folder);

/// The same, and throws (kCorruptData) the first problem.
void verify_manifest(const std::filesystem::path& folder);

/// XXH3 (128 bits) of a file, as 32 hexadecimal digits.
std::string hash_file(const std::filesystem::path& file);

}  // namespace pastur
