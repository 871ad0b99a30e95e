#pragma once
// Paths and input files. Output is in data/output.h.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/file_descriptor.h"

namespace pastur {

/// The paths that `path` names: itself when it exists, whatever characters it holds; otherwise those that
/// match it as a shell pattern (braces and ~ are expanded), sorted by name. Empty when there are none. Throws
/// (kIo).
std::vector<std::string> expand_paths(const std::string& path);
/// A pattern that matches `path` alone.
std::string escape_glob(const std::string& path);

/// False when nothing has this name; a path that cannot be examined throws (kIo).
bool path_exists(const std::filesystem::path& path);

/// Throws "<what> <path>: <strerror(errno)>": kMissingInput when the path does not exist, otherwise kIo.
[[noreturn]] void fail_input(const std::string& what, const std::filesystem::path& path);

/// open(2) with `flags` and O_CLOEXEC, repeated when a signal interrupts it. Empty on failure, with errno
/// set.
FileDescriptor open_descriptor(const std::filesystem::path& path, int flags);

/// Opens a file for reading. Throws (kMissingInput, kIo).
FileDescriptor open_input(const std::filesystem::path& path);

/// One read(2), repeated when a signal interrupts it. Returns the number of bytes; 0 at the end of the file.
/// Throws (kIo).
size_t read_some(const FileDescriptor& file, std::span<char> out, const std::filesystem::path& path);

/// Calls `consume` with the bytes of the file, at most 1 MiB at a time. Throws (kMissingInput, kIo).
void read_in_chunks(const std::filesystem::path& path, const std::function<void(std::string_view)>& consume);

/// The whole file. Throws (kMissingInput, kIo), and (kCorruptData) when it is larger than max_bytes.
std::string read_file(const std::filesystem::path& path, int64_t max_bytes);

/// A regular file mapped for reading; an empty file maps to an empty span. Movable: the bytes stay in place.
class MappedFile {
  public:
    /// Throws (kMissingInput, kIo), and (kCorruptData) when it is not a regular file.
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
