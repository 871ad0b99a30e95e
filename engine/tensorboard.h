#pragma once
// Scalars for TensorBoard: events.out.tfevents.* in the run folder.
#include <memory>
#include <string>
#include <vector>

#include "engine/files.h"
#include "engine/spectrum_records.h"

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

/// `spectral/L03/qk/product/<metric>` of a layer, or of a weight, and
/// `spectral/L03/qk.heads/product/<metric>`, the mean over the layer's heads; the metrics that tell capacity
/// from noise: mp_gap_ratio, outlier_count, outlier_energy, stable_rank, entropy_rank.
std::vector<Scalar> spectral_scalars(int64_t step, const std::vector<SpectrumRecord>& records);

}  // namespace pastur
