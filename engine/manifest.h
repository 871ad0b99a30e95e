#pragma once
// MANIFEST.json: size and XXH3 of every file in a folder, so that a damaged checkpoint is recognised before
// it is read.
#include <filesystem>
#include <string>

namespace pastur {

inline constexpr const char* kManifestName = "MANIFEST.json";

/// Hashes every regular file of the folder (not of folders inside) and writes and fsyncs its MANIFEST.json.
void write_manifest(const std::filesystem::path& folder);

/// Reads every byte of the folder. Throws (kCorruptData) for a file that is missing, of another size or hash,
/// or not listed, and for a manifest that is none; (kMissingInput) when the folder is not there.
void verify_manifest(const std::filesystem::path& folder);

/// XXH3 (128 bits) of a file, as 32 hexadecimal digits.
std::string hash_file(const std::filesystem::path& file);

}  // namespace pastur
