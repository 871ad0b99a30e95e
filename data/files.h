#pragma once
// Files as a pretraining run needs them: globs, and output that is complete or absent.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// Paths that a shell pattern matches (braces and ~ too), sorted by name; none when nothing matches.
std::vector<std::string> expand_glob(const std::string& pattern);

/// Writes one new file through a buffer. Every failure throws (kIo): a full disk is found here, not later.
class FileWriter {
  public:
    explicit FileWriter(const std::filesystem::path& path);
    ~FileWriter();
    FileWriter(const FileWriter&) = delete;
    FileWriter& operator=(const FileWriter&) = delete;

    void write(std::string_view bytes);
    /// Overwrites bytes already written.
    void write_at(int64_t offset, std::string_view bytes);
    /// Flushes, fsyncs and closes.
    void finish();
    const std::filesystem::path& path() const { return path_; }

  private:
    void flush();
    std::filesystem::path path_;
    int fd_ = -1;
    std::string buffer_;
};

/// A file that appears under its name only when commit() has made it complete and durable.
class OutputFile {
  public:
    explicit OutputFile(const std::filesystem::path& path);
    ~OutputFile();
    void write(std::string_view bytes) { writer_.write(bytes); }
    void commit();

  private:
    std::filesystem::path path_;
    FileWriter writer_;
    bool committed_ = false;
};

/// A folder that appears under its name only when commit() renames it there. Until then it is the sibling
/// `<name>.partial`; what an interrupted run left of that is removed, one that is being written now is
/// refused.
class OutputFolder {
  public:
    /// An existing `path` throws (kUsage) unless `replace`.
    OutputFolder(const std::filesystem::path& path, bool replace);
    ~OutputFolder();
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

    const std::filesystem::path& staging() const { return staging_; }
    void commit();

  private:
    std::filesystem::path path_, staging_;
    bool replace_;
    int lock_ = -1;
    bool committed_ = false;
};

/// The whole file. Throws (kMissingInput, kIo), and (kCorruptData) when it is larger than max_bytes.
std::string read_file(const std::filesystem::path& path, int64_t max_bytes);

/// Makes a rename in `folder` durable.
void sync_folder(const std::filesystem::path& folder);

}  // namespace pastur
