#pragma once
// A file of JSON lines in the folder spectra/ of a run, each with the step that it belongs to.
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "data/output.h"

namespace pastur {

class StepLines {
  public:
    /// Touches no file until open().
    explicit StepLines(std::filesystem::path file) : path_(std::move(file)) {}

    using Use = std::function<void(const nlohmann::ordered_json&)>;
    /// Makes the folder. Lines of steps after `step` (-1: all) move to <name>.abandoned.jsonl. Calls `use` with every
    /// line that remains, in order; one that is not JSON is a discarded value (json_text.h). Throws (kIo).
    void open(int64_t step, const Use& use);
    /// Appends one metrics_line() for each object with one write. Throws (kIo).
    void append(const std::vector<nlohmann::ordered_json>& objects);
    /// Makes everything appended durable. Throws (kIo).
    void sync() { file_->sync(); }

  private:
    std::filesystem::path path_;
    std::unique_ptr<AppendFile> file_;
};

}  // namespace pastur
