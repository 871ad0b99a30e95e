#include "data/temporary_name.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>

#include "data/files.h"
#include "kernels/base/error.h"

namespace pastur {

namespace fs = std::filesystem;

namespace {

constexpr size_t kDigits = 16;
/// A name may have 255 bytes; the marker and the digits need 32 of them.
constexpr size_t kMostOfName = 200;

std::string prefix_of(const fs::path& output) {
    return output.filename().string().substr(0, kMostOfName) + ".pastur-partial-";
}

bool is_temporary(const std::string& name, const std::string& prefix) {
    return name.size() == prefix.size() + kDigits && name.starts_with(prefix) &&
           name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos;
}

}  // namespace

fs::path temporary_name(const fs::path& output) {
    uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random)
        fail_io("cannot choose a name for", output.string());
    return output.parent_path() / fmt::format("{}{:0{}x}", prefix_of(output), random, kDigits);
}

std::vector<fs::path> temporaries_of(const fs::path& output) {
    const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
    const std::string prefix = prefix_of(output);
    std::vector<fs::path> found;
    const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), ::closedir);
    if (!listing) return found;
    while (const dirent* entry = ::readdir(listing.get()))
        if (is_temporary(entry->d_name, prefix)) found.push_back(folder / entry->d_name);
    return found;
}

bool lock_temporary(const FileDescriptor& file) {
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK && errno != EINTR;
    struct stat status {};
    return ::fstat(file.get(), &status) == 0 && status.st_nlink > 0;
}

void remove_abandoned_files(const fs::path& output) {
    for (const fs::path& path : temporaries_of(output)) {
        const FileDescriptor file = open_descriptor(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        struct stat status {};
        if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
        if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    }
}

}  // namespace pastur
