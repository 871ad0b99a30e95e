#include "engine/train/hugging_face/hf_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "engine/io/json_text.h"

namespace pastur {
namespace fs = std::filesystem;
using nlohmann::json;

/// Takes the weight map, {"weight_map": {tensor: file, ...}, ...}, as the parser meets it: a value of the whole text
/// would take many times its memory.
class IndexReader : public nlohmann::json_sax<json> {
  public:
    static constexpr size_t kMaxFiles = 10'000;

    explicit IndexReader(HfIndex& index) : index_(index) {}

    bool null() override { return other(); }
    bool boolean(bool) override { return other(); }
    bool number_integer(int64_t) override { return other(); }
    bool number_unsigned(uint64_t) override { return other(); }
    bool number_float(double, const std::string&) override { return other(); }
    bool binary(binary_t&) override { return false; }
    bool string(std::string& value) override {
        if (!in_map()) return other();
        const auto [file, added] = files_.emplace(std::move(value), static_cast<uint32_t>(files_.size()));
        index_.entries_.back().file = file->second;
        return files_.size() <= kMaxFiles;
    }
    bool start_object(size_t) override { return begin(/*is_object=*/true); }
    bool start_array(size_t) override { return begin(/*is_object=*/false); }
    bool end_object() override { return end(); }
    bool end_array() override { return end(); }
    bool key(std::string& key) override {
        if (depth_ == 1) at_map_ = key == "weight_map";
        if (!in_map()) return true;
        index_.entries_.push_back(
            {static_cast<uint32_t>(index_.names_.size()), static_cast<uint32_t>(key.size()), 0});
        index_.names_ += key;
        return true;
    }
    bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
        return false;
    }
    /// The names of files, by their numbers.
    std::vector<std::string> files() const {
        std::vector<std::string> names(files_.size());
        for (const auto& [name, number] : files_) names[number] = name;
        return names;
    }

  private:
    bool in_map() const { return at_map_ && depth_ == 2; }
    /// Takes a value that is not a text, which is an error as the weight map or within it.
    bool other() const { return depth_ >= 1 && !at_map_; }
    bool begin(bool is_object) {
        const bool fits = depth_ == 0 || (at_map_ && depth_ == 1) ? is_object : !at_map_;
        return ++depth_ <= kMaxJsonDepth && fits;
    }
    bool end() { return --depth_, true; }

    HfIndex& index_;
    std::map<std::string, uint32_t> files_;
    int depth_ = 0;
    bool at_map_ = false;
};

namespace {
constexpr int64_t kIndexLimit = 16 << 20;
}

HfIndex::HfIndex(const fs::path& file) : path_(file) {
    const std::string text = read_file(file, kIndexLimit);
    IndexReader reader(*this);
    const bool is_json = json::sax_parse(text.begin(), text.end(), &reader, json::input_format_t::json);
    if (!is_json || entries_.empty())
        fail(ExitCode::kCorruptData, "{}: expected a \"weight_map\" of tensors to at most {} files",
             file.string(), IndexReader::kMaxFiles);
    for (const std::string& name : reader.files()) {
        const fs::path path = name;
        if (path.empty() || path != path.filename() || path == "." || path == "..")
            fail(ExitCode::kCorruptData, "{}: weight_map: expected names of files in the same folder",
                 file.string());
        files_.push_back(file.parent_path() / path);
    }
    std::sort(entries_.begin(), entries_.end(),
              [&](const Entry& a, const Entry& b) { return name_of(a) < name_of(b); });
    const auto twice =
        std::adjacent_find(entries_.begin(), entries_.end(),
                           [&](const Entry& a, const Entry& b) { return name_of(a) == name_of(b); });
    if (twice != entries_.end())
        fail(ExitCode::kCorruptData, "{}: weight_map names tensor {} twice", file.string(),
             shown_name(std::string(name_of(*twice))));
}

void HfIndex::check(const std::map<std::string, const SafetensorsFile*>& owners) const {
    for (const Entry& entry : entries_) {
        const std::string name(name_of(entry));
        const auto owner = owners.find(name);
        const fs::path& file = files_[entry.file];
        if (owner == owners.end() || owner->second->path() != file)
            fail(ExitCode::kCorruptData, "{}: expected tensor {} in {}, as weight_map says: it is in {}",
                 path_.string(), shown_name(name), file.filename().string(),
                 owner == owners.end() ? "no file" : owner->second->path().filename().string());
    }
}

}  // namespace pastur
