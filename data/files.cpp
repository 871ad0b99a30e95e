#include "data/files.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "kernels/base/error.h"

namespace pastur {

namespace fs = std::filesystem;

std::vector<std::string> expand_paths(const std::string& path) {
    std::error_code ignored;  // a pattern may be longer than a name can be
    if (fs::exists(path, ignored)) return {path};
    glob_t matches{};
    const int status = ::glob(path.c_str(), GLOB_BRACE | GLOB_TILDE, nullptr, &matches);
    const std::unique_ptr<glob_t, void (*)(glob_t*)> guard(&matches, ::globfree);
    if (status != 0 && status != GLOB_NOMATCH) fail(ExitCode::kIo, "cannot list the files of {}", path);
    std::vector<std::string> paths;
    if (status == 0) paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
    std::sort(paths.begin(), paths.end());  // glob's own order depends on the locale
    return paths;
}

std::string escape_glob(const std::string& path) {
    std::string pattern;
    for (const char c : path) {
        const bool special = std::string_view("*?[{}\\").find(c) != std::string_view::npos;
        if (special || (c == '~' && pattern.empty())) pattern += '\\';
        pattern += c;
    }
    return pattern;
}

bool path_exists(const fs::path& path) {
    std::error_code error;
    const bool exists = fs::exists(path, error);
    if (error) fail(ExitCode::kIo, "cannot examine {}: {}", path.string(), error.message());
    return exists;
}

void fail_input(const std::string& what, const fs::path& path) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    fail(missing ? ExitCode::kMissingInput : ExitCode::kIo, "{} {}: {}", what, path.string(),
         std::strerror(error));
}

FileDescriptor open_descriptor(const fs::path& path, int flags) {
    int descriptor = -1;
    do descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    while (descriptor < 0 && errno == EINTR);
    return FileDescriptor(descriptor);
}

FileDescriptor open_input(const fs::path& path) {
    FileDescriptor file = open_descriptor(path, O_RDONLY);
    if (!file) fail_input("cannot open", path);
    return file;
}

size_t read_some(const FileDescriptor& file, std::span<char> out, const fs::path& path) {
    ssize_t count = -1;
    do count = ::read(file.get(), out.data(), out.size());
    while (count < 0 && errno == EINTR);
    if (count < 0) fail_io("cannot read", path.string());
    return static_cast<size_t>(count);
}

void read_in_chunks(const fs::path& path, const std::function<void(std::string_view)>& consume) {
    const FileDescriptor file = open_input(path);
    std::vector<char> buffer(1 << 20);
    // read(2) instead of a map: a failing medium is then an error, not a signal.
    while (const size_t count = read_some(file, buffer, path)) consume({buffer.data(), count});
}

std::string read_file(const fs::path& path, int64_t max_bytes) {
    const FileDescriptor file = open_input(path);
    std::string bytes;
    char block[1 << 16];
    while (const size_t count = read_some(file, block, path)) {
        bytes.append(block, count);
        if (static_cast<int64_t>(bytes.size()) > max_bytes)
            fail(ExitCode::kCorruptData, "{} is larger than {} bytes", path.string(), max_bytes);
    }
    return bytes;
}

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
    const FileDescriptor file = open_input(path_);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) fail_io("cannot examine", path_.string());
    if (!S_ISREG(status.st_mode)) fail(ExitCode::kCorruptData, "{}: not a regular file", path_.string());
    if (status.st_size == 0) return;
    void* data = ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (data == MAP_FAILED) fail_io("cannot map", path_.string());
    data_ = static_cast<const std::byte*>(data);
    size_ = static_cast<size_t>(status.st_size);
}

MappedFile::~MappedFile() {
    if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

}  // namespace pastur
