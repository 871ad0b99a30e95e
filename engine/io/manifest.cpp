#include "engine/io/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/manifest_records.h"
#include "engine/io/safetensors.h"
#include "engine/io/xxh3.h"
#include "kernels/base/error.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

/// The positions of a safetensors file's tensors. They follow its header without a gap, which its reader checks.
std::vector<TensorRecord> tensors_of(const fs::path& path) {
    if (path.extension() != ".safetensors") return {};
    const SafetensorsFile file(path);
    std::vector<TensorRecord> tensors;
    for (const auto& [name, entry] : file.entries())
        tensors.push_back(
            {name, static_cast<uint64_t>(entry.bytes.data() - file.bytes().data()), entry.bytes.size(), ""});
    sort_by_position(tensors);
    return tensors;
}

/// Hashes the file, and in the same pass each of its consecutive `tensors`.
FileRecord hash_parts(const fs::path& path, std::vector<TensorRecord> tensors) {
    FileRecord file;
    Xxh3 whole, part;
    for (TensorRecord& record : tensors) record.hash.clear();  // stays empty for a tensor that is cut off
    auto tensor = tensors.begin();
    read_in_chunks(path, [&](std::string_view chunk) {
        whole.update(chunk);
        uint64_t at = file.bytes;
        file.bytes += chunk.size();
        for (; tensor != tensors.end() && tensor->begin <= file.bytes; ++tensor) {
            const uint64_t end = tensor->begin + tensor->bytes;
            at = std::max(at, tensor->begin);
            part.update(chunk.substr(chunk.size() - (file.bytes - at), std::min(end, file.bytes) - at));
            if (end > file.bytes) break;
            at = end;
            tensor->hash = part.digits();
            part.reset();
        }
    });
    file.hash = whole.digits();
    file.tensors = std::move(tensors);
    return file;
}

std::string quoted(const std::string& name) {
    return nlohmann::json(name).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

/// The part of a file that is not as listed, as the end of a message; empty if the manifest lists no tensors.
std::string damaged_part(const FileRecord& listed, const FileRecord& found) {
    if (listed.tensors.empty()) return "";
    if (found.bytes < listed.tensors.front().begin) return "; its header is cut short";
    std::vector<std::string> names;
    for (size_t i = 0; i < listed.tensors.size(); ++i)
        if (found.tensors[i].hash != listed.tensors[i].hash) names.push_back(quoted(listed.tensors[i].name));
    if (names.empty())
        return found.bytes > listed.bytes ? "; bytes were appended" : "; damaged in its header";
    constexpr size_t kShown = 3;
    const size_t shown = std::min(names.size(), kShown);
    const std::string more =
        names.size() > shown ? fmt::format(" and {} more", names.size() - shown) : std::string();
    names.resize(shown);
    return fmt::format("; damaged in tensor {}{}", fmt::join(names, ", "), more);
}

/// The problem of a file; empty: none.
std::string inspect_file(const fs::path& path, const FileRecord& listed) {
    std::error_code error;
    const bool exists = fs::is_regular_file(path, error);
    if (error) return fmt::format("{}: {}", path.string(), error.message());
    if (!exists) return fmt::format("{}: expected a regular file", path.string());
    const FileRecord found = hash_parts(path, listed.tensors);
    if (found.bytes != listed.bytes)
        return fmt::format("{}: {} bytes: expected {}{}", path.string(), found.bytes, listed.bytes,
                           damaged_part(listed, found));
    if (found.hash != listed.hash)
        return fmt::format("{}: XXH3 {}: expected {}{}", path.string(), found.hash, listed.hash,
                           damaged_part(listed, found));
    return "";
}

}  // namespace

std::string hash_file(const fs::path& file) {
    return hash_parts(file, {}).hash;
}

void write_manifest(const fs::path& folder) {
    ManifestRecords records;
    std::map<std::string, fs::path> sorted;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file() && entry.path().filename() != kManifestName)
            sorted[entry.path().filename().string()] = entry.path();
    for (const auto& [name, path] : sorted) records[name] = hash_parts(path, tensors_of(path));
    write_file_atomically(folder / kManifestName, manifest_text(records));
}

namespace {

void check_nothing_unlisted(const fs::path& folder, const ManifestRecords& records) {
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (name != kManifestName && !records.contains(name))
            fail(ExitCode::kCorruptData, "{}: expected only files that {} lists", entry->path().string(),
                 kManifestName);
    }
    if (error) fail(ExitCode::kIo, "cannot list {}: {}", folder.string(), error.message());
}

}  // namespace

std::vector<FileReport> inspect_manifest(const fs::path& folder) {
    if (!path_exists(folder)) fail(ExitCode::kMissingInput, "{}: no such folder", folder.string());
    const fs::path manifest = folder / kManifestName;
    if (!path_exists(manifest))
        fail(ExitCode::kCorruptData, "{}: expected a manifest: the checkpoint is incomplete",
             manifest.string());
    const ManifestRecords records = read_manifest(manifest);
    check_nothing_unlisted(folder, records);
    std::vector<FileReport> reports;
    for (const auto& [name, record] : records)
        reports.push_back({name, record.bytes, record.tensors.size(), inspect_file(folder / name, record)});
    return reports;
}

void verify_manifest(const fs::path& folder) {
    for (const FileReport& report : inspect_manifest(folder))
        if (!report.problem.empty()) fail(ExitCode::kCorruptData, "{}", report.problem);
}

}  // namespace pastur
