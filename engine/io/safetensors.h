#pragma once
// The safetensors format: 8 bytes of header length (little endian), a JSON header that gives every tensor's
// dtype, shape and byte range, then the bytes.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/files.h"
#include "kernels/base/tensor.h"

namespace pastur {

using StringMap = std::map<std::string, std::string>;

/// A tensor to be written. `bytes` is called when its turn comes and its span need only live until the next
/// call of any provider, so that device tensors can pass through one host buffer.
struct TensorSource {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
    std::function<std::span<const std::byte>()> bytes;
};

/// Writes the file, then fsyncs it. Tensors lie by falling element size, so that all are aligned, else in the
/// order given. Throws (kIo); a provider's exception passes through. The file is no atomic replacement: write
/// it in a temporary folder.
void write_safetensors(const std::filesystem::path& file, const std::vector<TensorSource>& tensors,
                       const StringMap& metadata);

/// A safetensors file, mapped. Opening checks the whole header: lengths, names, dtypes, shapes, and that the
/// tensors tile the data without a hole or an overlap. Throws (kCorruptData) naming file, tensor and what was
/// expected; (kMissingInput, kIo) when it cannot be opened.
class SafetensorsFile {
  public:
    struct Entry {
        std::string
            dtype;  ///< as in the file: "F32", "BF16", "F64", "I32", or one only to be looked at: "F16" ...
        std::vector<int64_t> shape;
        std::span<const std::byte> bytes;
    };

    explicit SafetensorsFile(const std::filesystem::path& file);

    const std::filesystem::path& path() const { return file_.path(); }
    /// The whole file: length, header and data.
    std::span<const std::byte> bytes() const { return file_.bytes(); }
    const StringMap& metadata() const { return metadata_; }
    const std::map<std::string, Entry>& entries() const { return entries_; }
    bool contains(const std::string& name) const { return entries_.count(name) != 0; }
    /// The tensor, which must have this dtype and shape; throws (kCorruptData) with what the file holds
    /// instead, or the nearest name when there is none.
    ConstTensor tensor(const std::string& name, DType dtype, const Shape& shape) const;

  private:
    void parse_header();
    void check_tiling() const;

    MappedFile file_;
    StringMap metadata_;
    std::map<std::string, Entry> entries_;
};

}  // namespace pastur
