#include "data/files.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "kernels/base/error.h"

namespace fs = std::filesystem;

namespace pastur {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

/// Repeats short and interrupted writes; offset -1: at the current position.
void write_all(int fd, std::string_view bytes, int64_t offset, const fs::path& path) {
    while (!bytes.empty()) {
        const ssize_t n = offset < 0 ? ::write(fd, bytes.data(), bytes.size())
                                     : ::pwrite(fd, bytes.data(), bytes.size(), offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) fail_io("cannot write", path.string());
        bytes.remove_prefix(static_cast<size_t>(n));
        if (offset >= 0) offset += n;
    }
}

fs::path with_suffix(const fs::path& path, const char* suffix) {
    return path.string() + suffix;
}

fs::path folder_of(const fs::path& path) {
    return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void make_parents(const fs::path& path) {
    std::error_code error;
    fs::create_directories(folder_of(path), error);
    if (error) fail(ExitCode::kIo, "cannot create folder {}: {}", folder_of(path).string(), error.message());
}

/// "DIR/" and "DIR" name the same folder; only the latter has a sibling.
fs::path without_trailing_slash(const fs::path& path) {
    const fs::path clean = path.lexically_normal();
    return clean.has_filename() ? clean : clean.parent_path();
}

/// Puts `staging` in the place of `path`, in one step where the file system can exchange names.
void replace_folder(const fs::path& staging, const fs::path& path) {
    if (::renameat2(AT_FDCWD, staging.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
        fs::remove_all(staging);
        return;
    }
    if (errno != EINVAL && errno != ENOSYS) fail_io("cannot rename to", path.string());
    const fs::path old = with_suffix(path, ".old");
    fs::remove_all(old);
    if (::rename(path.c_str(), old.c_str()) != 0) fail_io("cannot rename", path.string());
    if (::rename(staging.c_str(), path.c_str()) != 0) fail_io("cannot rename to", path.string());
    fs::remove_all(old);
}

}  // namespace

std::vector<std::string> expand_glob(const std::string& pattern) {
    glob_t matches{};
    const int status = ::glob(pattern.c_str(), GLOB_BRACE | GLOB_TILDE, nullptr, &matches);
    const std::unique_ptr<glob_t, void (*)(glob_t*)> guard(&matches, ::globfree);
    if (status != 0 && status != GLOB_NOMATCH) fail(ExitCode::kIo, "cannot list the files of {}", pattern);
    std::vector<std::string> paths;
    if (status == 0) paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
    std::sort(paths.begin(), paths.end());  // glob's own order depends on the locale
    return paths;
}

FileWriter::FileWriter(const fs::path& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    // An output folder that is not there is an I/O error, not a missing input.
    if (fd_ < 0) fail(ExitCode::kIo, "cannot create {}: {}", path.string(), std::strerror(errno));
    buffer_.reserve(kBufferBytes);
}

FileWriter::~FileWriter() {
    if (fd_ >= 0) ::close(fd_);
}

void FileWriter::flush() {
    write_all(fd_, buffer_, -1, path_);
    buffer_.clear();
}

void FileWriter::write(std::string_view bytes) {
    if (buffer_.size() + bytes.size() > kBufferBytes) flush();
    if (bytes.size() >= kBufferBytes) {
        write_all(fd_, bytes, -1, path_);
    } else {
        buffer_.append(bytes);
    }
}

void FileWriter::write_at(int64_t offset, std::string_view bytes) {
    flush();
    write_all(fd_, bytes, offset, path_);
}

void FileWriter::finish() {
    flush();
    if (::fsync(fd_) != 0) fail_io("cannot fsync", path_.string());
    const int status = ::close(fd_);
    fd_ = -1;
    if (status != 0) fail_io("cannot close", path_.string());
}

OutputFile::OutputFile(const fs::path& path)
    : path_(path), writer_((make_parents(path), with_suffix(path, ".partial"))) {}

OutputFile::~OutputFile() {
    if (!committed_) ::unlink(writer_.path().c_str());
}

void OutputFile::commit() {
    writer_.finish();
    if (::rename(writer_.path().c_str(), path_.c_str()) != 0) fail_io("cannot rename to", path_.string());
    committed_ = true;
    sync_folder(folder_of(path_));
}

OutputFolder::OutputFolder(const fs::path& path, bool replace)
    : path_(without_trailing_slash(path)), staging_(with_suffix(path_, ".partial")), replace_(replace) {
    if (fs::exists(path_) && !replace)
        fail(ExitCode::kUsage, "{} exists already; --force replaces it", path_.string());
    make_parents(path_);
    if (::mkdir(staging_.c_str(), 0777) != 0 && errno != EEXIST) fail_io("cannot create", staging_.string());
    lock_ = ::open(staging_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_ < 0) fail_io("cannot open", staging_.string());
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
        ::close(lock_);
        fail(ExitCode::kIo, "{} is being written by another process", staging_.string());
    }
    for (const fs::directory_entry& left : fs::directory_iterator(staging_)) fs::remove_all(left.path());
}

OutputFolder::~OutputFolder() {
    std::error_code ignored;
    if (!committed_) fs::remove_all(staging_, ignored);
    ::close(lock_);
}

void OutputFolder::commit() {
    sync_folder(staging_);
    if (replace_ && fs::exists(path_)) {
        replace_folder(staging_, path_);
    } else if (::rename(staging_.c_str(), path_.c_str()) != 0) {
        fail_io("cannot rename to", path_.string());
    }
    committed_ = true;
    sync_folder(folder_of(path_));
}

std::string read_file(const fs::path& path, int64_t max_bytes) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail_io("cannot open", path.string());
    FILE* file = ::fdopen(fd, "rb");
    const std::unique_ptr<FILE, int (*)(FILE*)> guard(file, ::fclose);
    std::string bytes;
    char block[1 << 16];
    while (const size_t n = ::fread(block, 1, sizeof(block), file)) {
        bytes.append(block, n);
        if (static_cast<int64_t>(bytes.size()) > max_bytes)
            fail(ExitCode::kCorruptData, "{} is larger than {} bytes", path.string(), max_bytes);
    }
    if (::ferror(file)) fail_io("cannot read", path.string());
    return bytes;
}

void sync_folder(const fs::path& folder) {
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) fail_io("cannot open", folder.string());
    const int status = ::fsync(fd);
    ::close(fd);
    if (status != 0 && errno != EINVAL) fail_io("cannot fsync", folder.string());
}

}  // namespace pastur
