#include "data/corpus/corpus_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <utility>

#include "data/corpus/content_format.h"
#include "data/files.h"
#include "kernels/base/error.h"

namespace fs = std::filesystem;

namespace pastur {
namespace {

/// Device and inode: what a file or folder is, under any of its names.
using Identity = std::pair<dev_t, ino_t>;

Identity identity_of(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) fail_input("cannot open", path);
    return {status.st_dev, status.st_ino};
}

bool has_corpus_name(const std::string& path) {
    return has_json_name(path) || has_text_name(path);
}

/// Collects the files below a folder. Folders come before links to folders, each in order of path, so a folder with
/// several names is read under the same one on every file system.
class Walk {
  public:
    explicit Walk(const std::string& folder) {
        visit(folder);
        while (!links_.empty()) visit(links_.extract(links_.begin()).value());
        std::sort(files_.begin(), files_.end());
    }
    const std::vector<std::string>& files() const { return files_; }

  private:
    void visit(const std::string& folder) {
        if (!visited_.insert(identity_of(folder)).second) return;
        std::error_code error;
        for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
            if (!it->path().filename().native().starts_with('.')) enter(*it);
        if (error) fail(ExitCode::kIo, "cannot list {}: {}", folder, error.message());
    }
    void enter(const fs::directory_entry& entry) {
        std::error_code error;
        const std::string path = entry.path();
        if (entry.is_directory(error)) {
            entry.is_symlink(error) ? static_cast<void>(links_.insert(path)) : visit(path);
        } else if (has_corpus_name(path)) {
            if (!entry.exists(error)) fail(ExitCode::kMissingInput, "{}: a link to nothing", path);
            if (entry.is_regular_file(error)) files_.push_back(path);
        }
    }
    std::set<Identity> visited_;
    std::set<std::string> links_;
    std::vector<std::string> files_;
};

}  // namespace

std::vector<std::string> corpus_files(const std::vector<std::string>& inputs) {
    std::vector<std::string> files;
    std::set<Identity> seen;
    for (const std::string& input : inputs) {
        const std::vector<std::string> paths = expand_paths(input);
        if (paths.empty()) fail(ExitCode::kMissingInput, "no such file, folder or glob: {}", input);
        bool found = false;
        for (const std::string& path : paths)
            for (const std::string& file : fs::is_directory(path) ? Walk(path).files() : std::vector{path}) {
                if (seen.insert(identity_of(file)).second) files.push_back(file);
                found = true;
            }
        if (!found)
            fail(ExitCode::kMissingInput,
                 "{}: no .txt, .text, .json, .jsonl or .ndjson file (plain, .gz or .zst) below it", input);
    }
    return files;
}

int64_t total_bytes(const std::vector<std::string>& files) {
    int64_t total = 0;
    for (const std::string& path : files) {
        std::error_code error;
        const auto size = fs::file_size(path, error);
        if (!error) total += static_cast<int64_t>(size);
    }
    return total;
}

}  // namespace pastur
