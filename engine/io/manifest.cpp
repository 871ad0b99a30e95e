#include "engine/io/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <memory>
#include <new>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/json_text.h"
#include "engine/io/safetensors.h"
#include "kernels/base/error.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kMaxManifestBytes = 16 << 20;
constexpr int kVersion = 2;

class Xxh3 {
  public:
    Xxh3() : state_(XXH3_createState(), XXH3_freeState) {
        if (!state_) throw std::bad_alloc();
        reset();
    }
    void reset() { XXH3_128bits_reset(state_.get()); }
    void update(std::string_view bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
    std::string digits() const {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
        return fmt::format("{:02x}", fmt::join(canonical.digest, ""));
    }

  private:
    std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

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

void in_file_order(std::vector<TensorRecord>& tensors) {
    std::sort(tensors.begin(), tensors.end(), [](const TensorRecord& a, const TensorRecord& b) {
        return std::pair(a.begin, a.bytes) < std::pair(b.begin, b.bytes);
    });
}

/// The positions of a safetensors file's tensors. They follow its header without a gap, which its reader checks.
std::vector<TensorRecord> tensors_of(const fs::path& path) {
    if (path.extension() != ".safetensors") return {};
    const SafetensorsFile file(path);
    std::vector<TensorRecord> tensors;
    for (const auto& [name, entry] : file.entries())
        tensors.push_back(
            {name, static_cast<uint64_t>(entry.bytes.data() - file.bytes().data()), entry.bytes.size(), ""});
    in_file_order(tensors);
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

/// The end of a manifest: the hash of the text before it.
std::string seal_of(std::string_view text) {
    Xxh3 hash;
    hash.update(text);
    return fmt::format(",\n  \"xxh3_128\": \"{}\"\n}}\n", hash.digits());
}

bool is_sealed(std::string_view text) {
    const size_t length = seal_of("").size();
    return text.size() > length &&
           text.substr(text.size() - length) == seal_of(text.substr(0, text.size() - length));
}

[[noreturn]] void fail_manifest(const fs::path& manifest, const std::string& expected) {
    fail(ExitCode::kCorruptData, "{}: expected {}", manifest.string(), expected);
}

json member(const json& record, const char* key) {
    return record.is_object() ? record.value(key, json()) : json();
}

TensorRecord tensor_record(const fs::path& manifest, const std::string& name, const json& record) {
    const json begin = member(record, "begin"), bytes = member(record, "bytes"),
               hash = member(record, "xxh3_128");
    if (!begin.is_number_unsigned() || !bytes.is_number_unsigned() || !hash.is_string())
        fail_manifest(manifest, "\"begin\", \"bytes\" and \"xxh3_128\" of each tensor");
    return {name, begin.get<uint64_t>(), bytes.get<uint64_t>(), hash.get<std::string>()};
}

FileRecord file_record(const fs::path& manifest, const std::string& name, const json& record) {
    const json bytes = member(record, "bytes"), hash = member(record, "xxh3_128");
    // A name with a folder in it could point outside the checkpoint.
    const bool plain = !name.empty() && name.find('/') == std::string::npos && name != "." && name != "..";
    if (!plain || !bytes.is_number_unsigned() || !hash.is_string())
        fail_manifest(manifest, "a file's name, \"bytes\" and \"xxh3_128\" in each record");
    FileRecord file{bytes.get<uint64_t>(), hash.get<std::string>(), {}};
    const json tensors = member(record, "tensors");
    for (const auto& [tensor, content] : tensors.items())
        file.tensors.push_back(tensor_record(manifest, tensor, content));
    in_file_order(file.tensors);
    for (size_t i = 0; i < file.tensors.size(); ++i) {
        const TensorRecord& record = file.tensors[i];
        const bool last = i + 1 == file.tensors.size();
        const uint64_t end = last ? file.bytes : file.tensors[i + 1].begin;
        if (record.begin > end || end - record.begin != record.bytes)
            fail_manifest(manifest, "consecutive tensors up to the end of " + name);
    }
    return file;
}

/// {"version": 2, "files": {name: {"bytes": n, "xxh3_128": "...", "tensors": {name: {"begin": n, "bytes": n,
/// "xxh3_128": "..."}}}}, "xxh3_128": "..."}. Version 1 had no hash of its own, so damage to it stays unnoticed.
std::map<std::string, FileRecord> read_manifest(const fs::path& manifest) {
    const std::string text = read_file(manifest, kMaxManifestBytes);
    const json content = parse_json(text, kMaxManifestBytes);
    const json version = member(content, "version"), files = member(content, "files");
    if (version.is_number_integer() && version != kVersion)
        fail_manifest(manifest, fmt::format("version {}, not {}", kVersion, version.dump()));
    if (version != kVersion || !files.is_object())
        fail_manifest(manifest, "{\"version\": 2, \"files\": {...}}");
    std::map<std::string, FileRecord> records;
    for (const auto& [name, record] : files.items()) records[name] = file_record(manifest, name, record);
    if (!is_sealed(text))
        fail_manifest(manifest, "the hash of the preceding text in its last line: the manifest is damaged");
    return records;
}

std::string quoted(const std::string& name) {
    return json(name).dump(-1, ' ', true, json::error_handler_t::replace);
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
    ordered_json files = ordered_json::object();
    std::map<std::string, fs::path> sorted;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file() && entry.path().filename() != kManifestName)
            sorted[entry.path().filename().string()] = entry.path();
    for (const auto& [name, path] : sorted) {
        const FileRecord file = hash_parts(path, tensors_of(path));
        files[name] = {{"bytes", file.bytes}, {"xxh3_128", file.hash}};
        for (const TensorRecord& tensor : file.tensors)
            files[name]["tensors"][tensor.name] = {
                {"begin", tensor.begin}, {"bytes", tensor.bytes}, {"xxh3_128", tensor.hash}};
    }
    std::string text = ordered_json{{"version", kVersion}, {"files", files}}.dump(2);
    text.resize(text.size() - std::string_view("\n}").size());
    write_file_atomically(folder / kManifestName, text + seal_of(text));
}

namespace {

void check_nothing_unlisted(const fs::path& folder, const std::map<std::string, FileRecord>& records) {
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
    if (!path_exists(manifest)) fail_manifest(manifest, "a manifest: the checkpoint is incomplete");
    const std::map<std::string, FileRecord> records = read_manifest(manifest);
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
