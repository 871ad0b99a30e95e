#pragma once
// The JSON header of a safetensors file.
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

struct SafetensorsEntry {
    /// As in the file: F32, BF16, F64, I32, or one that SafetensorsFile::tensor() does not read, such as F16.
    std::string dtype;
    std::vector<int64_t> shape;
    std::span<const std::byte> bytes;
};

struct SafetensorsHeader {
    std::map<std::string, std::string> metadata;
    std::map<std::string, SafetensorsEntry> entries;
};

/// Reads a header of the tensors in `data`. Its values go straight into the result, so memory is at most about
/// six times the text; bounds: nesting 3, 32 dimensions, 16 unknown fields per tensor, 1024 entries of metadata.
/// Throws (kCorruptData), naming `file` and the tensor, for what is not JSON or beyond these bounds, duplicate
/// keys, wrong types, and byte ranges outside `data` or of another size than dtype and shape.
SafetensorsHeader read_safetensors_header(const std::string& file, std::string_view text,
                                          std::span<const std::byte> data);

/// A name from a file that may be damaged: quoted, escaped and cut to a line.
std::string shown_name(const std::string& name);

}  // namespace pastur
