#include "data/shards/open_files.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "data/files.h"
#include "kernels/base/error.h"

namespace pastur {

size_t OpenFiles::default_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = 1024;
    return static_cast<size_t>(std::clamp<rlim_t>(limit.rlim_cur / 4, 16, 1 << 16));
}

std::shared_ptr<const FileDescriptor> OpenFiles::open(const std::filesystem::path& path) {
    const std::lock_guard lock(mutex_);
    if (const auto found = files_.find(path); found != files_.end()) return found->second;
    FileDescriptor file =
        open_descriptor(path, O_RDONLY | O_NONBLOCK);  // a pipe without a writer would block
    if (!file) fail_io("cannot open", path.string());
    // No read-ahead: what follows the bytes that are read is seldom read next.
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM);
    if (order_.size() >= most_) {
        files_.erase(order_.front());
        order_.pop_front();
    }
    order_.push_back(path);
    return files_[path] = std::make_shared<const FileDescriptor>(std::move(file));
}

void read_at(const FileDescriptor& file, int64_t offset, std::span<std::byte> out,
             const std::filesystem::path& path) {
    while (!out.empty()) {
        const ssize_t count = ::pread(file.get(), out.data(), out.size(), offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail_io("cannot read", path.string());
        if (count == 0)
            fail(ExitCode::kCorruptData, "{}: cut short while it was in use (byte {} is beyond its end)",
                 path.string(), offset);
        out = out.subspan(static_cast<size_t>(count));
        offset += count;
    }
}

}  // namespace pastur
