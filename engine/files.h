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

namespace pastur {

/// Calls `consume` with the bytes of the file, some MiB at a time.
void read_in_chunks(const std::filesystem::path& path, const std::function<void(std::string_view)>& consume);
/// The whole file. Throws (kCorruptData) when it is longer than `limit`.
std::string read_file(const std::filesystem::path& path, int64_t limit);

/// Replaces `path` by `content`: temporary neighbour, fsync, rename, fsync of the folder.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// False only where nothing is; a path that cannot be looked at throws.
bool path_exists(const std::filesystem::path& path);
/// Makes the folder and its parents, durably; an existing folder is fine.
void make_folders(const std::filesystem::path& path);
/// fsync of a file, or of the entries of a folder.
void sync_path(const std::filesystem::path& path);
/// rename(2), then the parent folder is made durable. Both names in the same folder.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// A file being written: whole writes, buffered by nobody but the kernel.
class OutputFile {
  public:
    enum class Mode { kTruncate, kAppend };
    OutputFile(std::filesystem::path path, Mode mode);
    ~OutputFile();
    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;

    const std::filesystem::path& path() const { return path_; }
    /// All bytes or an exception; in kAppend mode one write(2) unless the system takes less.
    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
    /// fsync and close, both checked. Without it the destructor closes and durability is not promised.
    void sync_and_close();

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
