#pragma once
// The safetensors format: 8 bytes of header length (little endian), a JSON header with every tensor's dtype,
// shape and byte range, then the data.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/files.h"
#include "engine/io/safetensors_header.h"
#include "kernels/base/tensor.h"

namespace pastur {

using StringMap = std::map<std::string, std::string>;

/// A tensor to be written. `bytes` is called when the tensor is written. Its result need only live until the next
/// call of any tensor's `bytes`, so device tensors can share one host buffer.
struct TensorSource {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
    std::function<std::span<const std::byte>()> bytes;
    /// Written instead of the dtype's name, for formats of the same size that no kernel reads ("F16").
    const char* format = nullptr;
};

/// Writes and fsyncs the file. Tensors are sorted by descending element size, which aligns all of them, and are
/// otherwise in the order given. Throws (kIo); an exception of `bytes` propagates. Does not replace an existing
/// file atomically: write into a temporary folder.
void write_safetensors(const std::filesystem::path& file, const std::vector<TensorSource>& tensors,
                       const StringMap& metadata);

/// A memory-mapped safetensors file. Opening checks the whole header: lengths, names, dtypes, shapes, and that
/// the tensors tile the data without gap or overlap. Throws (kCorruptData) naming file, tensor and what was
/// expected, and (kMissingInput, kIo) if the file cannot be opened.
class SafetensorsFile {
  public:
    using Entry = SafetensorsEntry;

    explicit SafetensorsFile(const std::filesystem::path& file);

    const std::filesystem::path& path() const { return file_.path(); }
    /// The whole file: length, header and data.
    std::span<const std::byte> bytes() const { return file_.bytes(); }
    const StringMap& metadata() const { return metadata_; }
    const std::map<std::string, Entry>& entries() const { return entries_; }
    bool contains(const std::string& name) const { return entries_.count(name) != 0; }
    /// The tensor, which must have this dtype and shape. Otherwise throws (kCorruptData) with what the file holds
    /// instead, or with the nearest name.
    ConstTensor tensor(const std::string& name, DType dtype, const Shape& shape) const;

  private:
    void parse_header();
    void check_tiling() const;

    MappedFile file_;
    StringMap metadata_;
    std::map<std::string, Entry> entries_;
};

}  // namespace pastur
