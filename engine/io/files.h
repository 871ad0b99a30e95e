#pragma once
// Files that are complete or absent. Every failure throws (kIo, or kMissingInput for what should exist) with
// the path and the system's reason.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "data/files.h"

namespace pastur {

/// Calls `consume` with the bytes of the file, some MiB at a time.
void read_in_chunks(const std::filesystem::path& path, const std::function<void(std::string_view)>& consume);

/// Replaces `path` by `content`, which is durable then.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// False only where nothing is; a path that cannot be looked at throws.
bool path_exists(const std::filesystem::path& path);
/// Makes the folder and its parents, durably; an existing folder is fine.
void make_folders(const std::filesystem::path& path);
/// fsync of a file that somebody else wrote, or of the entries of a folder.
void sync_path(const std::filesystem::path& path);
/// rename(2), then the parent folder is made durable. Both names in the same folder.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// A file that grows at its end, made where it is missing; buffered by nobody but the kernel.
class AppendFile {
  public:
    explicit AppendFile(std::filesystem::path path);
    ~AppendFile();
    AppendFile(const AppendFile&) = delete;
    AppendFile& operator=(const AppendFile&) = delete;

    /// All bytes or an exception; one write(2), unless the system takes less.
    void write(std::string_view bytes);
    /// fsync.
    void sync();

  private:
    std::filesystem::path path_;
    int descriptor_ = -1;
};

/// A file mapped for reading. An empty file maps to an empty span.
class MappedFile {
  public:
    explicit MappedFile(std::filesystem::path path);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&&) = delete;

    const std::filesystem::path& path() const { return path_; }
    std::span<const std::byte> bytes() const { return {data_, size_}; }

  private:
    std::filesystem::path path_;
    const std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace pastur
