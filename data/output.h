#pragma once
// Output files and folders that are complete or absent. Every failure throws (kIo) with the path and the
// system's reason; a folder of the path that does not exist is such a failure, not a missing input. New files are
// created exclusively; no symbolic link is followed to one.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "data/file_descriptor.h"

namespace pastur {

/// Makes the folder and its parents, durably; an existing folder is fine.
void make_folders(const std::filesystem::path& path);
/// fsync of a finished file, or of the entries of a folder. "": the current folder.
void sync_path(const std::filesystem::path& path);
/// rename(2), then fsync of the parent folder. Both names are in the same folder.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);
/// Replaces `path` by `content`, durably. Makes the parent folders.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Writes one file through a buffer of 1 MiB.
class FileWriter {
  public:
    /// Creates the file. If the name exists, symbolic links included, it must be that of a device or a pipe.
    explicit FileWriter(const std::filesystem::path& path);
    /// Writes to an open file. Messages name it `path`.
    FileWriter(std::filesystem::path path, FileDescriptor file);

    void write(std::string_view bytes);
    /// Overwrites bytes already written.
    void write_at(int64_t offset, std::string_view bytes);
    /// Flushes, fsyncs and closes. Without it the file ends anywhere.
    void finish();
    const std::filesystem::path& path() const { return path_; }

  private:
    void flush();
    std::filesystem::path path_;
    FileDescriptor file_;
    std::string buffer_;
};

/// A regular file that grows at its end; created, durably, where it is missing. Follows no symbolic link.
/// Unbuffered.
class AppendFile {
  public:
    explicit AppendFile(std::filesystem::path path);

    /// One write(2), unless the system takes less. Throws (kIo) if the file no longer has its name.
    void write(std::string_view bytes);
    /// fsync. Throws (kIo) if the file no longer has its name.
    void sync();

  private:
    void check_name() const;
    std::filesystem::path path_;
    FileDescriptor file_;
};

/// A file that appears under its name only when commit() has made it complete and durable. Until then it has a
/// random name next to it (data/temporary_name.h). Makes the parent folders. Replaces a regular file. Bytes for a
/// device, a pipe or the file behind standard output (/dev/stdout) are written to it directly.
class OutputFile {
  public:
    /// Throws (kUsage) if `path` is a symbolic link to a file.
    explicit OutputFile(const std::filesystem::path& path);
    ~OutputFile();
    void write(std::string_view bytes) { writer_.write(bytes); }
    void commit();

  private:
    std::filesystem::path path_;
    bool direct_ = false;
    FileDescriptor lock_;  ///< of the temporary file
    FileWriter writer_;
    bool committed_ = false;
};

/// A folder of files that appears under its name only when commit() renames it there. Until then it has a random
/// name next to it (data/temporary_name.h). Deletes only files with names of its own: those of the folder that it
/// replaces, and those of temporary folders that killed processes left.
class OutputFolder {
  public:
    using IsOwnName = std::function<bool(const std::string&)>;
    /// Throws (kUsage) when `path` exists, unless it is an empty folder or to be replaced, and when it holds
    /// anything but files with names of its own; (kIo) when another process is writing the folder.
    OutputFolder(const std::filesystem::path& path, bool replace, IsOwnName is_own_name);
    ~OutputFolder();
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

    const std::filesystem::path& staging() const { return staging_; }
    void commit();

  private:
    void make_staging();
    void remove_abandoned() const;
    std::string foreign_name_in(const std::filesystem::path& folder) const;
    void check_own(const std::filesystem::path& folder) const;
    void remove_own(const std::filesystem::path& folder) const;
    void exchange();

    std::filesystem::path path_, staging_;
    bool replace_;
    IsOwnName is_own_name_;
    FileDescriptor lock_;
    bool committed_ = false;
};

}  // namespace pastur
