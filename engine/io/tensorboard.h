#pragma once
// Scalars for TensorBoard: events.out.tfevents.* in the run folder.
#include <memory>
#include <string>
#include <vector>

#include "data/output.h"

namespace pastur {

struct Scalar {
    int64_t step;
    std::string tag;
    double value;  ///< stored as float32; TensorBoard omits the point if it is not finite
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
    /// Makes everything written durable. Throws (kIo).
    void sync() { file_->sync(); }

  private:
    void append(const std::string& event);
    std::unique_ptr<AppendFile> file_;
};

}  // namespace pastur
