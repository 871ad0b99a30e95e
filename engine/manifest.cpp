#include "engine/manifest.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <map>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>

#include "engine/files.h"
#include "kernels/error.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr int64_t kMaxManifestBytes = 16 << 20;

struct FileRecord {
    uint64_t bytes = 0;
    std::string hash;
};

[[noreturn]] void fail_manifest(const fs::path& manifest, const std::string& expected) {
    fail(ExitCode::kCorruptData, "{}: expected {}", manifest.string(), expected);
}

/// {"version": 1, "files": {name: {"bytes": n, "xxh3_128": "..."}}}
std::map<std::string, FileRecord> read_manifest(const fs::path& manifest) {
    const json content = json::parse(read_file(manifest, kMaxManifestBytes), nullptr, false);
    if (!content.is_object() || content.value("version", json()) != 1 ||
        !content.value("files", json()).is_object())
        fail_manifest(manifest, "{\"version\": 1, \"files\": {...}}");
    std::map<std::string, FileRecord> records;
    for (const auto& [name, record] : content["files"].items()) {
        const json bytes = record.is_object() ? record.value("bytes", json()) : json();
        const json hash = record.is_object() ? record.value("xxh3_128", json()) : json();
        // A name with a folder in it would reach out of the checkpoint.
        const bool plain =
            !name.empty() && name.find('/') == std::string::npos && name != "." && name != "..";
        if (!plain || !bytes.is_number_unsigned() || !hash.is_string())
            fail_manifest(manifest, "a file's name, \"bytes\" and \"xxh3_128\" in each record");
        records[name] = {bytes.get<uint64_t>(), hash.get<std::string>()};
    }
    return records;
}

}  // namespace

std::string hash_file(const fs::path& file) {
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
    if (!state) throw std::bad_alloc();
    XXH3_128bits_reset(state.get());
    read_in_chunks(
        file, [&](std::string_view chunk) { XXH3_128bits_update(state.get(), chunk.data(), chunk.size()); });
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state.get()));
    std::string text;
    for (const unsigned char byte : canonical.digest) text += fmt::format("{:02x}", byte);
    return text;
}

void write_manifest(const fs::path& folder) {
    nlohmann::ordered_json files = nlohmann::ordered_json::object();
    std::map<std::string, fs::path> sorted;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file() && entry.path().filename() != kManifestName)
            sorted[entry.path().filename().string()] = entry.path();
    for (const auto& [name, path] : sorted)
        files[name] = {{"bytes", fs::file_size(path)}, {"xxh3_128", hash_file(path)}};
    const nlohmann::ordered_json manifest = {{"version", 1}, {"files", files}};
    write_file_atomically(folder / kManifestName, manifest.dump(2) + "\n");
}

void verify_manifest(const fs::path& folder) {
    if (!path_exists(folder)) fail(ExitCode::kMissingInput, "{}: no such folder", folder.string());
    const fs::path manifest = folder / kManifestName;
    if (!path_exists(manifest)) fail_manifest(manifest, "a manifest: the checkpoint is incomplete");
    for (const auto& [name, record] : read_manifest(manifest)) {
        const fs::path file = folder / name;
        std::error_code error;
        const uint64_t bytes = fs::file_size(file, error);
        if (error) fail(ExitCode::kCorruptData, "{}: {}", file.string(), error.message());
        if (bytes != record.bytes)
            fail(ExitCode::kCorruptData, "{}: {} bytes: expected {}", file.string(), bytes, record.bytes);
        if (const std::string hash = hash_file(file); hash != record.hash)
            fail(ExitCode::kCorruptData, "{}: XXH3 {}: expected {}", file.string(), hash, record.hash);
    }
}

}  // namespace pastur
