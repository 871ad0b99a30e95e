#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "data/files.h"
#include "data/output.h"
#include "data/temporary_name.h"
#include "kernels/base/error.h"

namespace pastur {

namespace fs = std::filesystem;

namespace {

/// The folder itself, under a name that has a sibling: "DIR/" has none, and a link's is elsewhere.
fs::path resolved(const fs::path& path) {
    std::error_code ignored;
    if (fs::is_symlink(path, ignored) && fs::exists(path, ignored)) return fs::canonical(path);
    const fs::path clean = path.lexically_normal();
    return clean.has_filename() ? clean : clean.parent_path();
}

/// <name>.pastur-partial-<digits> -> <name>.pastur-replaced-<digits>, which nothing removes after a crash.
fs::path replaced_name(const fs::path& temporary) {
    std::string name = temporary.string();
    constexpr std::string_view kPartial = "partial-";
    return name.replace(name.rfind(kPartial), kPartial.size(), "replaced-");
}

}  // namespace

OutputFolder::OutputFolder(const fs::path& path, bool replace, IsOwnName is_own_name)
    : path_(resolved(path)), replace_(replace), is_own_name_(std::move(is_own_name)) {
    if (path_exists(path_)) {
        if (!fs::is_directory(path_))
            fail(ExitCode::kUsage, "{} is not a folder: give another one", path_.string());
        if (!fs::is_empty(path_) && !replace)
            fail(ExitCode::kUsage, "{} exists already; --force replaces it", path_.string());
        check_own(path_);
    }
    make_folders(path_.parent_path());
    remove_abandoned();
    make_staging();
}

void OutputFolder::make_staging() {
    constexpr int kTries = 100;
    for (int i = 0; i < kTries; ++i) {
        staging_ = temporary_name(path_);
        if (::mkdir(staging_.c_str(), 0777) != 0) {
            if (errno == EEXIST) continue;
            fail_io("cannot create", staging_.string());
        }
        lock_ = open_descriptor(staging_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (lock_ && lock_temporary(lock_)) return;
    }
    errno = EEXIST;
    fail_io("cannot create a temporary folder for", path_.string());
}

/// Removes the temporary folders that killed processes left, unless something else was put into them.
void OutputFolder::remove_abandoned() const {
    for (const fs::path& folder : temporaries_of(path_)) {
        const FileDescriptor lock = open_descriptor(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (!lock) continue;
        if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
            if (errno != EWOULDBLOCK) continue;
            fail(ExitCode::kIo, "{} is being written by another process, in {}", path_.string(),
                 folder.string());
        }
        if (!foreign_name_in(folder).empty()) continue;
        remove_own(folder);
        ::rmdir(folder.c_str());
    }
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

/// The first name of something in `folder` that no OutputFolder writes; empty: there is none.
std::string OutputFolder::foreign_name_in(const fs::path& folder) const {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename();
        if (!fs::is_regular_file(entry.symlink_status()) || !is_own_name_(name)) return name;
    }
    return "";
}

void OutputFolder::check_own(const fs::path& folder) const {
    if (const std::string name = foreign_name_in(folder); !name.empty())
        fail(ExitCode::kUsage, "{} holds {}, which would be lost: move it, or give another folder",
             folder.string(), name);
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
        old = replaced_name(staging_);
        if (::rename(path_.c_str(), old.c_str()) != 0) fail_io("cannot rename to", old.string());
        if (::rename(staging_.c_str(), path_.c_str()) != 0) fail_io("cannot rename to", path_.string());
    }
    remove_own(old);
    ::rmdir(old.c_str());
}

}  // namespace pastur
