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
    double value;  ///< kept as float32; TensorBoard draws no point where it is not finite
};

/// One file of records, each [uint64 length | crc32c(length) | Event | crc32c(Event)], masked checksums
/// (TensorFlow's record_writer.h); an Event is a protocol buffer (event.proto). Appended record by record, so
/// that a killed run leaves at most its last one cut, which readers skip.
class TensorboardLog {
  public:
    /// Starts a file of its own in `folder`, named after the second and the host, which tells readers to
    /// forget what earlier files of the folder say of steps after `step` (-1: of all). Throws (kIo).
    TensorboardLog(const std::filesystem::path& folder, int64_t step);
    /// Throws (kIo).
    void write(const std::vector<Scalar>& scalars);
    /// What was written is durable. Throws (kIo).
    void sync() { file_->sync(); }

  private:
    void append(const std::string& event);
    std::unique_ptr<AppendFile> file_;
};

}  // namespace pastur
