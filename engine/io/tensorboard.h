#pragma once
// Scalars, texts and hyperparameters for TensorBoard: events.out.tfevents.* in the run folder.
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "data/output.h"

namespace pastur {

struct Scalar {
    int64_t step;
    std::string tag;
    double value;  ///< stored as float32; TensorBoard omits the point if it is not finite
};

/// A setting of a run by which TensorBoard's HParams tab sorts, filters and compares runs.
struct Hyperparameter {
    std::string name;
    std::variant<double, bool, std::string> value;
};

/// One file of records [uint64 length | crc32c(length) | Event | crc32c(Event)] with masked checksums
/// (TensorFlow's record_writer.h); an Event is a protocol buffer (event.proto). Records are appended one by one:
/// a run that is killed leaves at most its last record cut, which readers skip.
class TensorboardLog {
  public:
    /// Starts a new file in `folder`, named after the time and the host. It tells readers to discard points of
    /// steps after `step` (-1: all) in earlier files of the folder. Throws (kIo).
    TensorboardLog(const std::filesystem::path& folder, int64_t step);
    /// Throws (kIo).
    void write(const std::vector<Scalar>& scalars);
    /// A text in Markdown, for the Text tab.
    void write_text(int64_t step, const std::string& tag, const std::string& text);
    /// The run's hyperparameters, and the tags of the scalars that the HParams tab shows next to them. The tab takes both
    /// lists from the first run that it finds, so every run should write the same names.
    void write_hyperparameters(int64_t step, const std::vector<Hyperparameter>& parameters,
                               const std::vector<std::string>& metrics);
    /// The status that the HParams tab shows for the run.
    void write_end(int64_t step, bool succeeded);
    /// Makes everything written durable. Throws (kIo).
    void sync() { file_->sync(); }

  private:
    void append(const std::string& event);
    void append_value(int64_t step, const std::string& value);
    std::unique_ptr<AppendFile> file_;
};

}  // namespace pastur
