#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace pastur {

/// A file read from front to back, decompressed on the way. The content, not the name, decides: gzip (several
/// members too), Zstandard (several frames too), anything else is taken as it is. Memory is bounded by the
/// formats' windows (Zstandard: 128 MiB), however far the content expands.
class ByteSource {
  public:
    virtual ~ByteSource() = default;
    /// Fills the front of `out`, returns how much; 0 at the end. Throws (kIo), and (kCorruptData) where a
    /// compressed stream is damaged or cut short.
    virtual size_t read(std::span<char> out) = 0;
    /// Bytes of the file read so far, before decompression: the measure of progress.
    virtual int64_t consumed() const = 0;
};

/// Throws (kMissingInput, kIo), and (kCorruptData) for a compression that is not supported (xz, bzip2, zip,
/// lz4), or a name in .gz or .zst whose content is neither.
std::unique_ptr<ByteSource> open_source(const std::string& path);

}  // namespace pastur
