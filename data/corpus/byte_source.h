#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace pastur {

/// A file read from front to back and decompressed on the way: gzip (of any number of members, zeros between
/// and after them), Zstandard (of any number of frames), or bytes as they are. The content decides which.
/// Memory is bounded by the formats' windows (Zstandard: 2 GiB, of `zstd --long=31`), however far the content
/// expands.
class ByteSource {
  public:
    virtual ~ByteSource() = default;
    /// Fills the front of `out` and returns the number of bytes; 0 at the end. Throws (kIo), and
    /// (kCorruptData) where a compressed stream is damaged or cut short.
    virtual size_t read(std::span<char> out) = 0;
    /// Bytes of the file read so far, before decompression.
    virtual int64_t consumed() const = 0;
};

/// Throws (kMissingInput, kIo), and (kCorruptData) for a name in .gz or .zst whose content is neither.
std::unique_ptr<ByteSource> open_source(const std::string& path);

}  // namespace pastur
