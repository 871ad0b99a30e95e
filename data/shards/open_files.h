#pragma once
// Files that stay open while there are descriptors for them.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "data/file_descriptor.h"

namespace pastur {

/// Descriptors of files that are read at random positions, at most `most` of them at once: a corpus can have
/// more shards than a process may open files. The file opened first is closed first. Thread-safe.
class OpenFiles {
  public:
    /// most: by default a quarter of the descriptors that the process may have, at least 16.
    explicit OpenFiles(size_t most = default_limit()) : most_(most) {}
    static size_t default_limit();

    /// The file, opened for reading now or earlier. Throws (kIo).
    std::shared_ptr<const FileDescriptor> open(const std::filesystem::path& path);

  private:
    size_t most_;
    std::mutex mutex_;
    std::map<std::filesystem::path, std::shared_ptr<const FileDescriptor>> files_;
    std::deque<std::filesystem::path> order_;  ///< of opening
};

/// out = the bytes of the file from `offset` on. A map would turn an error into a signal. Throws (kIo), and
/// (kCorruptData) if the file ends before.
void read_at(const FileDescriptor& file, int64_t offset, std::span<std::byte> out,
             const std::filesystem::path& path);

}  // namespace pastur
