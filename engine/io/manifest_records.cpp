#include "engine/io/manifest_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "engine/io/xxh3.h"
#include "kernels/base/error.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kMaxManifestBytes = 16 << 20;

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

/// Takes the events of the parser. Each place has one type, so nothing nests deeper than the format does.
class ManifestReader : public nlohmann::json_sax<json> {
  public:
    explicit ManifestReader(const fs::path& path) : path_(path) {}

    ManifestRecords take() {
        if (given_ != (kVersion | kFiles | kHash)) fail_here();
        return std::move(records_);
    }

    bool null() override { fail_value("null"); }
    bool boolean(bool value) override { fail_value(value ? "true" : "false"); }
    bool number_float(double, const std::string& text) override { fail_value(text.substr(0, 100)); }
    bool number_integer(int64_t value) override { fail_value(std::to_string(value)); }
    bool number_unsigned(uint64_t value) override {
        if (level_ == Level::kRoot && key_ == "version" && value == kManifestVersion) {
            give(kVersion);
        } else if (level_ == Level::kFile && key_ == "bytes") {
            give(kBytes);
            file_->second.bytes = value;
        } else if (level_ == Level::kTensor && key_ == "bytes") {
            give(kBytes);
            tensor().bytes = value;
        } else if (level_ == Level::kTensor && key_ == "begin") {
            give(kBegin);
            tensor().begin = value;
        } else {
            fail_value(std::to_string(value));
        }
        return true;
    }
    bool string(std::string& value) override {
        if (key_ != "xxh3_128") fail_here();
        if (level_ == Level::kFile) file_->second.hash = std::move(value);
        if (level_ == Level::kTensor) tensor().hash = std::move(value);
        if (level_ != Level::kRoot && level_ != Level::kFile && level_ != Level::kTensor) fail_here();
        give(kHash);
        return true;
    }
    bool binary(binary_t&) override { return false; }  // not in JSON text

    bool start_object(size_t) override {
        if (level_ == Level::kOutside) {
            level_ = Level::kRoot;
        } else if (level_ == Level::kRoot && key_ == "files") {
            give(kFiles);
            level_ = Level::kFiles;
        } else if (level_ == Level::kFiles) {
            begin_file();
        } else if (level_ == Level::kFile && key_ == "tensors") {
            give(kTensors);
            file_given_ = given_;
            level_ = Level::kTensors;
        } else if (level_ == Level::kTensors) {
            file_->second.tensors.emplace_back().name = std::move(key_);
            given_ = 0;
            level_ = Level::kTensor;
        } else {
            fail_here();
        }
        return true;
    }
    bool end_object() override {
        switch (level_) {
            case Level::kTensor:
                if (given_ != (kBegin | kBytes | kHash)) fail_here();
                level_ = Level::kTensors;
                break;
            case Level::kTensors:
                given_ = file_given_;
                level_ = Level::kFile;
                break;
            case Level::kFile:
                if ((given_ & ~kTensors) != (kBytes | kHash)) fail_here();
                check_positions();
                given_ = root_given_;
                level_ = Level::kFiles;
                break;
            case Level::kFiles:
                level_ = Level::kRoot;
                break;
            default:
                level_ = Level::kOutside;
        }
        return true;
    }
    bool start_array(size_t) override { fail_here(); }
    bool end_array() override { return true; }
    bool key(std::string& key) override {
        key_ = std::move(key);
        return true;
    }
    bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { fail_here(); }

  private:
    enum class Level : uint8_t { kOutside, kRoot, kFiles, kFile, kTensors, kTensor };
    enum Member : unsigned { kVersion = 1, kFiles = 2, kHash = 4, kBytes = 8, kBegin = 16, kTensors = 32 };

    /// Notes a member of the object that is being read, which may have it once.
    void give(Member member) {
        if (given_ & member) fail_here();
        given_ |= member;
    }
    TensorRecord& tensor() { return file_->second.tensors.back(); }

    void begin_file() {
        if (key_.empty() || key_.find('/') != std::string::npos || key_ == "." || key_ == "..") fail_here();
        const auto [file, added] = records_.try_emplace(std::move(key_));
        if (!added) fail_here();
        file_ = &*file;
        root_given_ = given_;
        given_ = 0;
        level_ = Level::kFile;
    }
    /// Tensors follow a safetensors file's header without a gap.
    void check_positions() {
        FileRecord& file = file_->second;
        sort_by_position(file.tensors);
        for (size_t i = 0; i < file.tensors.size(); ++i) {
            const TensorRecord& record = file.tensors[i];
            const uint64_t end = i + 1 == file.tensors.size() ? file.bytes : file.tensors[i + 1].begin;
            if (record.begin > end || end - record.begin != record.bytes)
                fail_manifest(path_, "consecutive tensors up to the end of " + file_->first);
        }
    }

    [[noreturn]] void fail_value(const std::string& value) const {
        if (level_ == Level::kRoot && key_ == "version" && value.find('.') == value.npos)
            fail_manifest(path_, fmt::format("version {}, not {}", kManifestVersion, value));
        fail_here();
    }
    [[noreturn]] void fail_here() const {
        switch (level_) {
            case Level::kTensors:
            case Level::kTensor:
                fail_manifest(path_, "\"begin\", \"bytes\" and \"xxh3_128\" of each tensor");
            case Level::kFiles:
            case Level::kFile:
                fail_manifest(path_, "a file's name, \"bytes\" and \"xxh3_128\" in each record");
            default:
                fail_manifest(path_, "{\"version\": 2, \"files\": {...}} with a hash of its text");
        }
    }

    const fs::path& path_;
    ManifestRecords records_;
    Level level_ = Level::kOutside;
    unsigned given_ = 0;  ///< members of the object that is being read
    unsigned root_given_ = 0, file_given_ = 0;
    std::string key_;
    std::pair<const std::string, FileRecord>* file_ = nullptr;
};

}  // namespace

void sort_by_position(std::vector<TensorRecord>& tensors) {
    std::sort(tensors.begin(), tensors.end(), [](const TensorRecord& a, const TensorRecord& b) {
        return std::pair(a.begin, a.bytes) < std::pair(b.begin, b.bytes);
    });
}

std::string manifest_text(const ManifestRecords& records) {
    ordered_json files = ordered_json::object();
    for (const auto& [name, file] : records) {
        files[name] = {{"bytes", file.bytes}, {"xxh3_128", file.hash}};
        for (const TensorRecord& tensor : file.tensors)
            files[name]["tensors"][tensor.name] = {
                {"begin", tensor.begin}, {"bytes", tensor.bytes}, {"xxh3_128", tensor.hash}};
    }
    std::string text = ordered_json{{"version", kManifestVersion}, {"files", files}}.dump(2);
    text.resize(text.size() - std::string_view("\n}").size());
    return text + seal_of(text);
}

ManifestRecords read_manifest(const fs::path& manifest) {
    const std::string text = read_file(manifest, kMaxManifestBytes);
    ManifestReader reader(manifest);
    json::sax_parse(text.begin(), text.end(), &reader);
    ManifestRecords records = reader.take();
    if (!is_sealed(text))
        fail_manifest(manifest, "the hash of the preceding text in its last line: the manifest is damaged");
    return records;
}

}  // namespace pastur
