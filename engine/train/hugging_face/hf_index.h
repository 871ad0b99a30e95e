#pragma once
// model.safetensors.index.json: the file of every tensor of a folder whose weights are in shards.
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/safetensors.h"

namespace pastur {

inline constexpr const char* kHfIndexFile = "model.safetensors.index.json";

class HfIndex {
  public:
    /// Throws (kCorruptData) unless the file has a "weight_map" of tensors, each once, to names of files in the same
    /// folder, at most 10,000; (kMissingInput, kIo).
    explicit HfIndex(const std::filesystem::path& file);

    /// Paths in the index's folder.
    const std::vector<std::filesystem::path>& files() const { return files_; }
    /// Throws (kCorruptData) unless every tensor is in the file that the index names. owners: the file of each tensor.
    void check(const std::map<std::string, const SafetensorsFile*>& owners) const;

  private:
    struct Entry {
        uint32_t begin, length;  ///< of the name in names_
        uint32_t file;           ///< in files_
    };
    friend class IndexReader;
    std::string_view name_of(const Entry& entry) const {
        return std::string_view(names_).substr(entry.begin, entry.length);
    }

    std::filesystem::path path_;
    std::string names_;  ///< one after the other: strings of their own would take several times the file
    std::vector<Entry> entries_;  ///< by name
    std::vector<std::filesystem::path> files_;
};

}  // namespace pastur
