#include "data/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "data/files.h"
#include "data/temporary_name.h"
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

/// Creates the file, or opens the device or the pipe of this name.
FileDescriptor open_output(const fs::path& path) {
    FileDescriptor file = open_descriptor(path, O_WRONLY | O_CREAT | O_EXCL);
    if (file) return file;
    struct stat status {};
    if (errno == EEXIST && ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
        file = open_descriptor(path, O_WRONLY | O_NOCTTY);
    if (!file) fail_io("cannot create", path.string());
    return file;
}

bool same_file(const struct stat& a, const struct stat& b) {
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// The descriptor to write to if `path` names something that cannot be replaced by a file; empty: it can be.
FileDescriptor open_directly(const fs::path& path) {
    struct stat named {
    }, target{};
    if (::lstat(path.c_str(), &named) != 0 || S_ISREG(named.st_mode)) return {};
    if (::stat(path.c_str(), &target) != 0)
        fail(ExitCode::kUsage, "{} is a symbolic link to nothing: give the name of a file", path.string());
    for (const int standard : {STDOUT_FILENO, STDERR_FILENO}) {
        struct stat open {};
        if (::fstat(standard, &open) != 0 || !same_file(open, target)) continue;
        std::fflush(nullptr);  // keeps the order of printed text and output
        return FileDescriptor(::fcntl(standard, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    }
    if (S_ISREG(target.st_mode))
        fail(ExitCode::kUsage, "{} is a symbolic link: give the name of a file", path.string());
    return open_output(path);
}

/// Creates a temporary file for `output` and locks it.
FileWriter make_temporary(const fs::path& output, FileDescriptor& lock) {
    make_folders(output.parent_path());
    remove_abandoned_files(output);
    constexpr int kTries = 100;
    for (int i = 0; i < kTries; ++i) {
        const fs::path path = temporary_name(output);
        FileDescriptor file = open_descriptor(path, O_WRONLY | O_CREAT | O_EXCL);
        if (!file && errno != EEXIST) fail_io("cannot write", path.string());
        if (!file || !lock_temporary(file)) continue;
        // The lock belongs to the open file, so a duplicate keeps it when the writer closes its own.
        lock.reset(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
        return FileWriter(path, std::move(file));
    }
    errno = EEXIST;
    fail_io("cannot create a temporary file for", output.string());
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

FileWriter::FileWriter(const fs::path& path) : FileWriter(path, open_output(path)) {}

FileWriter::FileWriter(fs::path path, FileDescriptor file) : path_(std::move(path)), file_(std::move(file)) {
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

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {
    constexpr int kFlags =
        O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK;  // a pipe is refused, not waited for
    file_ = open_descriptor(path_, kFlags);
    if (!file_ && errno == ENOENT) {
        file_ = open_descriptor(path_, kFlags | O_CREAT | O_EXCL);
        if (file_) sync_path(path_.parent_path());
    }
    if (!file_) fail_io("cannot write", path_.string());
    struct stat status {};
    if (::fstat(file_.get(), &status) != 0) fail_io("cannot examine", path_.string());
    if (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode))  // a device keeps its name and takes bytes
        fail(ExitCode::kIo, "cannot write {}: not a regular file", path_.string());
}

/// Without this check, bytes for a file that was removed, or whose folder was, would be lost silently.
void AppendFile::check_name() const {
    struct stat open {
    }, named{};
    if (::fstat(file_.get(), &open) != 0) fail_io("cannot examine", path_.string());
    if (::lstat(path_.c_str(), &named) != 0) fail_io("lost the file", path_.string());
    if (!same_file(open, named))
        fail(ExitCode::kIo, "lost the file {}: another one has its name", path_.string());
}

void AppendFile::write(std::string_view bytes) {
    check_name();
    write_all(file_, bytes, -1, path_);
}

void AppendFile::sync() {
    check_name();
    sync_descriptor(file_, path_);
}

OutputFile::OutputFile(const fs::path& path)
    : path_(path), writer_([&] {
          FileDescriptor file = open_directly(path);
          direct_ = static_cast<bool>(file);
          return direct_ ? FileWriter(path, std::move(file)) : make_temporary(path, lock_);
      }()) {}

OutputFile::~OutputFile() {
    if (!committed_ && !direct_) ::unlink(writer_.path().c_str());
}

void OutputFile::commit() {
    writer_.finish();
    if (!direct_) rename_durably(writer_.path(), path_);
    committed_ = true;
}

}  // namespace pastur
