#include "data/output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "data/files.h"
#include "kernels/base/error.h"

namespace pastur {

namespace fs = std::filesystem;

namespace {

constexpr size_t kBufferBytes = 1 << 20;

/// Writes all bytes, at `offset` (-1: at the current position).
void write_all(const FileDescriptor& file, std::string_view bytes, int64_t offset, const fs::path& path) {
    while (!bytes.empty()) {
        const ssize_t count = offset < 0 ? ::write(file.get(), bytes.data(), bytes.size())
                                         : ::pwrite(file.get(), bytes.data(), bytes.size(), offset);
        if (count < 0 && errno == EINTR) continue;
        // write(2) does not set errno when it takes nothing; a full device is the only known reason.
        if (count == 0) errno = ENOSPC;
        if (count <= 0) fail_io("cannot write", path.string());
        bytes.remove_prefix(static_cast<size_t>(count));
        if (offset >= 0) offset += count;
    }
}

void sync_descriptor(const FileDescriptor& file, const fs::path& path) {
    // Pipes and devices have nothing to make durable and fail with EINVAL.
    if (::fsync(file.get()) != 0 && errno != EINVAL) fail_io("cannot fsync", path.string());
}

FileDescriptor open_output(const fs::path& path, int flags) {
    FileDescriptor file = open_descriptor(path, O_WRONLY | O_CREAT | flags);
    if (!file) fail_io("cannot write", path.string());
    return file;
}

fs::path with_suffix(const fs::path& path, const char* suffix) {
    return path.string() + suffix;
}

/// The folder itself, under a name that has a sibling: "DIR/" has none, and a link's is elsewhere.
fs::path resolved(const fs::path& path) {
    std::error_code ignored;
    if (fs::is_symlink(path, ignored) && fs::exists(path, ignored)) return fs::canonical(path);
    const fs::path clean = path.lexically_normal();
    return clean.has_filename() ? clean : clean.parent_path();
}

}  // namespace

void make_folders(const fs::path& path) {
    std::error_code error;
    if (path.empty() || fs::is_directory(path, error)) return;
    make_folders(path.parent_path());
    fs::create_directory(path, error);
    if (!error && !fs::is_directory(path, error)) error = std::make_error_code(std::errc::not_a_directory);
    if (error) fail(ExitCode::kIo, "cannot make folder {}: {}", path.string(), error.message());
    sync_path(path.parent_path());
}

void sync_path(const fs::path& path) {
    const FileDescriptor file = open_descriptor(path.empty() ? "." : path, O_RDONLY);
    if (!file) fail_io("cannot open", path.string());
    sync_descriptor(file, path);
}

void rename_durably(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_io("cannot rename to", to.string());
    sync_path(to.parent_path());
}

void write_file_atomically(const fs::path& path, std::string_view content) {
    OutputFile file(path);
    file.write(content);
    file.commit();
}

FileWriter::FileWriter(const fs::path& path) : path_(path), file_(open_output(path, O_TRUNC)) {
    buffer_.reserve(kBufferBytes);
}

void FileWriter::flush() {
    write_all(file_, buffer_, -1, path_);
    buffer_.clear();
}

void FileWriter::write(std::string_view bytes) {
    if (buffer_.size() + bytes.size() > kBufferBytes) flush();
    if (bytes.size() >= kBufferBytes) {
        write_all(file_, bytes, -1, path_);
    } else {
        buffer_.append(bytes);
    }
}

void FileWriter::write_at(int64_t offset, std::string_view bytes) {
    flush();
    write_all(file_, bytes, offset, path_);
}

void FileWriter::finish() {
    flush();
    sync_descriptor(file_, path_);
    if (::close(file_.release()) != 0) fail_io("cannot close", path_.string());
}

AppendFile::AppendFile(fs::path path) : path_(std::move(path)), file_(open_output(path_, O_APPEND)) {}

void AppendFile::write(std::string_view bytes) {
    write_all(file_, bytes, -1, path_);
}

void AppendFile::sync() {
    sync_descriptor(file_, path_);
}

OutputFile::OutputFile(const fs::path& path)
    : path_(path), writer_((make_folders(path.parent_path()), with_suffix(path, ".partial"))) {}

OutputFile::~OutputFile() {
    if (!committed_) ::unlink(writer_.path().c_str());
}

void OutputFile::commit() {
    writer_.finish();
    rename_durably(writer_.path(), path_);
    committed_ = true;
}

OutputFolder::OutputFolder(const fs::path& path, bool replace, IsOwnName is_own_name)
    : path_(resolved(path)),
      staging_(with_suffix(path_, ".partial")),
      replace_(replace),
      is_own_name_(std::move(is_own_name)) {
    if (path_exists(path_)) {
        if (!fs::is_directory(path_))
            fail(ExitCode::kUsage, "{} is not a folder: give another one", path_.string());
        if (!fs::is_empty(path_) && !replace)
            fail(ExitCode::kUsage, "{} exists already; --force replaces it", path_.string());
        check_own(path_);
    }
    make_folders(path_.parent_path());
    if (::mkdir(staging_.c_str(), 0777) != 0 && errno != EEXIST) fail_io("cannot create", staging_.string());
    lock_ = open_descriptor(staging_, O_RDONLY | O_DIRECTORY);
    if (!lock_) fail_io("cannot open", staging_.string());
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
        fail(ExitCode::kIo, "{} is being written by another process", staging_.string());
    check_own(staging_);
    remove_own(staging_);
}

OutputFolder::~OutputFolder() {
    if (committed_) return;
    remove_own(staging_);
    ::rmdir(staging_.c_str());
}

void OutputFolder::commit() {
    sync_path(staging_);
    if (replace_ && path_exists(path_) && !fs::is_empty(path_)) {
        exchange();
    } else if (::rename(staging_.c_str(), path_.c_str()) != 0) {
        fail_io("cannot rename to", path_.string());
    }
    committed_ = true;
    sync_path(path_.parent_path());
}

void OutputFolder::check_own(const fs::path& folder) const {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename();
        if (!entry.is_regular_file() || !is_own_name_(name))
            fail(ExitCode::kUsage, "{} holds {}, which would be lost: move it, or give another folder",
                 folder.string(), name);
    }
}

void OutputFolder::remove_own(const fs::path& folder) const {
    std::error_code ignored;
    std::vector<fs::path> own;
    for (fs::directory_iterator it(folder, ignored), end; it != end; it.increment(ignored))
        if (is_own_name_(it->path().filename())) own.push_back(it->path());
    for (const fs::path& path : own) fs::remove(path, ignored);
}

/// Puts the staging folder in the place of the one that is there, in one step where the file system can
/// exchange names, and removes the latter.
void OutputFolder::exchange() {
    check_own(path_);
    fs::path old = staging_;
    if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
        if (errno != EINVAL && errno != ENOSYS) fail_io("cannot rename to", path_.string());
        old = with_suffix(path_, ".old");
        if (::rename(path_.c_str(), old.c_str()) != 0) fail_io("cannot rename to", old.string());
        if (::rename(staging_.c_str(), path_.c_str()) != 0) fail_io("cannot rename to", path_.string());
    }
    remove_own(old);
    ::rmdir(old.c_str());
}

}  // namespace pastur
