#include "engine/io/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "kernels/base/error.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

/// Closes a descriptor that some later statement may throw past.
class Descriptor {
  public:
    explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
    ~Descriptor() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return descriptor_; }

  private:
    int descriptor_;
};

int open_retrying(const fs::path& path, int flags) {
    int descriptor = -1;
    do descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

/// Output that cannot be opened is an I/O error, even where the reason is a folder that does not exist.
[[noreturn]] void fail_output(const char* what, const fs::path& path) {
    const int error = errno;
    fail(ExitCode::kIo, "{} {}: {}", what, path.string(), std::generic_category().message(error));
}

void sync_descriptor(int descriptor, const fs::path& path) {
    // Special files (a pipe, /dev/null) have nothing to make durable and say EINVAL.
    if (::fsync(descriptor) != 0 && errno != EINVAL) fail_output("cannot fsync", path);
}

}  // namespace

void read_in_chunks(const fs::path& path, const std::function<void(std::string_view)>& consume) {
    const Descriptor file(open_retrying(path, O_RDONLY));
    if (file.get() < 0) fail_io("cannot open", path.string());
    std::vector<char> buffer(1 << 20);
    for (;;) {
        // Reads, no map: a medium that fails is then an error and not a signal.
        const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail_io("cannot read", path.string());
        if (got == 0) return;
        consume({buffer.data(), static_cast<size_t>(got)});
    }
}

void write_file_atomically(const fs::path& path, std::string_view content) {
    OutputFile file(path);
    file.write(content);
    file.commit();
}

bool path_exists(const fs::path& path) {
    std::error_code error;
    const bool exists = fs::exists(path, error);
    if (error) fail(ExitCode::kIo, "cannot look at {}: {}", path.string(), error.message());
    return exists;
}

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
    const Descriptor descriptor(open_retrying(path.empty() ? "." : path, O_RDONLY));
    if (descriptor.get() < 0) fail_output("cannot open", path);
    sync_descriptor(descriptor.get(), path);
}

void rename_durably(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_output("cannot rename to", to);
    sync_path(to.parent_path());
}

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {
    descriptor_ = open_retrying(path_, O_WRONLY | O_CREAT | O_APPEND);
    if (descriptor_ < 0) fail_output("cannot write", path_);
}

AppendFile::~AppendFile() {
    ::close(descriptor_);
}

void AppendFile::write(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t wrote = ::write(descriptor_, bytes.data(), bytes.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote == 0) errno = ENOSPC;  // a file that takes nothing and gives no reason
        if (wrote <= 0) fail_output("cannot write", path_);
        bytes.remove_prefix(static_cast<size_t>(wrote));
    }
}

void AppendFile::sync() {
    sync_descriptor(descriptor_, path_);
}

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
    const Descriptor file(open_retrying(path_, O_RDONLY));
    struct stat status {};
    if (file.get() < 0 || ::fstat(file.get(), &status) != 0) fail_io("cannot open", path_.string());
    if (!S_ISREG(status.st_mode)) fail(ExitCode::kIo, "cannot map {}: not a regular file", path_.string());
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
