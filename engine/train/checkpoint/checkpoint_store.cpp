#include "engine/train/checkpoint/checkpoint_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/manifest.h"
#include "engine/io/step_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

// Prefixes of folders that are not checkpoints: incomplete, being replaced, being removed.
constexpr const char* kTemporary = ".tmp-";
constexpr const char* kReplaced = ".old-";
constexpr const char* kDropped = ".drop-";

bool starts_with(const std::string& text, const char* prefix) {
    return text.rfind(prefix, 0) == 0;
}

/// The names in a folder; empty if the folder does not exist.
std::vector<std::string> names_in(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
        names.push_back(entry->path().filename().string());
    if (error && error != std::errc::no_such_file_or_directory)
        fail(ExitCode::kIo, "cannot list {}: {}", folder.string(), error.message());
    return names;
}

/// Errors are ignored: a leftover costs space, not correctness, and the next sweep tries again.
void remove_if_possible(const fs::path& path) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
}

/// Makes files durable that their writer may not have fsynced.
void sync_files(const fs::path& folder) {
    for (const std::string& name : names_in(folder)) sync_path(folder / name);
    sync_path(folder);
}

}  // namespace

CheckpointStore::CheckpointStore(fs::path folder, int64_t keep, int owner)
    : folder_(std::move(folder)), keep_(keep), owner_(owner) {
    PASTUR_CHECK(keep >= 0, "keep = {} checkpoints", keep);
}

void CheckpointStore::recover() {
    for (const std::string& name : names_in(folder_)) {
        if (starts_with(name, kReplaced)) {
            // Interrupted between the two renames of a replacement: only the old checkpoint is left.
            const fs::path original = folder_ / name.substr(std::string(kReplaced).size());
            if (!path_exists(original)) rename_durably(folder_ / name, original);
            remove_if_possible(folder_ / name);
        }
        if (starts_with(name, kTemporary) || starts_with(name, kDropped)) remove_if_possible(folder_ / name);
    }
}

void CheckpointStore::prepare(int64_t resumed) {
    make_folders(folder_);
    recover();
    // The last write may have been interrupted just before `latest` was updated.
    if (resumed >= 0) point_latest(step_name(resumed));
}

fs::path CheckpointStore::temporary_folder(int64_t step) const {
    return folder_ / fmt::format("{}{}-{}", kTemporary, step_name(step), owner_);
}

fs::path CheckpointStore::write(int64_t step, const std::function<void(const fs::path&)>& fill) {
    begin(step);
    return complete(step, fill);
}

void CheckpointStore::begin(int64_t step) {
    PASTUR_CHECK(step >= 0, "checkpoint of step {}", step);
    const fs::path temporary = temporary_folder(step);
    // A file left by an interrupted write would become part of this checkpoint.
    remove_if_possible(temporary);
    if (path_exists(temporary))
        fail(ExitCode::kIo,
             "remove {}, which an interrupted checkpoint left and which cannot be removed from here",
             temporary.string());
    try {
        make_folders(temporary);
    } catch (...) {
        remove_if_possible(temporary);
        throw;
    }
}

fs::path CheckpointStore::complete(int64_t step, const std::function<void(const fs::path&)>& fill) {
    const std::string name = step_name(step);
    const fs::path temporary = temporary_folder(step), final = folder_ / name,
                   replaced = folder_ / (kReplaced + name);
    try {
        fill(temporary);
        write_manifest(temporary);
        sync_files(temporary);
        if (path_exists(final)) {
            remove_if_possible(replaced);
            rename_durably(final, replaced);
        }
        rename_durably(temporary, final);
    } catch (...) {
        std::error_code ignored;  // prepare() repeats what fails here at the next start
        if (!fs::exists(final, ignored)) fs::rename(replaced, final, ignored);
        remove_if_possible(temporary);
        throw;
    }
    remove_if_possible(replaced);
    point_latest(name);
    written_ = step;
    prune(step);
    return final;
}

void CheckpointStore::hold(std::set<int64_t> steps) {
    const std::lock_guard<std::mutex> lock(mutex_);
    held_ = std::move(steps);
}

void CheckpointStore::tidy() const {
    if (written_ >= 0) prune(written_);
}

void CheckpointStore::point_latest(const std::string& name) const {
    write_file_atomically(folder_ / "latest", name + "\n");
}

void CheckpointStore::prune(int64_t written) const {
    if (keep_ == 0) return;
    std::vector<Checkpoint> others = list();
    std::erase_if(others, [&](const Checkpoint& checkpoint) { return checkpoint.step == written; });
    // Newest first, but steps after the one just written come last and are removed first: they were damaged
    // when this run resumed, or belong to an abandoned continuation.
    std::sort(others.begin(), others.end(), [&](const Checkpoint& a, const Checkpoint& b) {
        return std::pair(a.step < written, a.step) > std::pair(b.step < written, b.step);
    });
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (size_t i = static_cast<size_t>(keep_ - 1); i < others.size(); ++i) {
            if (held_.contains(others[i].step)) continue;
            // Renamed first, because removing many files can be interrupted.
            std::error_code ignored;
            fs::rename(others[i].path, folder_ / (kDropped + others[i].path.filename().string()), ignored);
        }
    }
    for (const std::string& name : names_in(folder_))
        if (starts_with(name, kDropped)) remove_if_possible(folder_ / name);
}

CheckpointStore::Checkpoint CheckpointStore::at(int64_t step) const {
    return {step, folder_ / step_name(step)};
}

std::vector<CheckpointStore::Checkpoint> CheckpointStore::list() const {
    std::vector<Checkpoint> checkpoints;
    for (const std::string& name : names_in(folder_))
        if (const int64_t step = step_of_name(name); step >= 0) checkpoints.push_back({step, folder_ / name});
    std::sort(checkpoints.begin(), checkpoints.end(),
              [](const Checkpoint& a, const Checkpoint& b) { return a.step < b.step; });
    return checkpoints;
}

std::optional<int64_t> CheckpointStore::newest_that_loads(std::vector<int64_t> steps,
                                                          const std::function<void(const fs::path&)>& load,
                                                          std::vector<std::string>& warnings) const {
    std::string first_problem;
    bool unreadable = false;
    for (; !steps.empty(); steps.pop_back()) {
        const std::string name = step_name(steps.back());
        try {
            load(folder_ / name);
            return steps.back();
        } catch (const Error& error) {
            const ExitCode code = error.code();
            if (code != ExitCode::kCorruptData && code != ExitCode::kMissingInput && code != ExitCode::kIo)
                throw;
            if (first_problem.empty()) first_problem = error.what();
            unreadable = unreadable || code == ExitCode::kIo;
            warnings.push_back(fmt::format("checkpoint {} is damaged and skipped: {}", name, error.what()));
        }
    }
    if (!first_problem.empty())
        fail(unreadable ? ExitCode::kIo : ExitCode::kCorruptData,
             "{}: no checkpoint is intact; of the newest: {}", folder_.string(), first_problem);
    return std::nullopt;
}

fs::path CheckpointStore::find(const fs::path& path) {
    if (!path_exists(path)) fail(ExitCode::kMissingInput, "{}: no such checkpoint", path.string());
    if (std::error_code ignored; !fs::is_directory(path, ignored)) {
        std::string name = path.filename() == "latest" ? read_file(path, 4096) : "";
        name.erase(name.find_last_not_of('\n') + 1);
        if (step_of_name(name) < 0)
            fail(ExitCode::kMissingInput,
                 "{}: expected a checkpoint folder, or the file `latest` in a folder of checkpoints",
                 path.string());
        return find(path.parent_path() / name);
    }
    if (path_exists(path / kManifestName)) return path;
    for (const fs::path& folder : {path, path / "checkpoints"})
        if (const auto checkpoints = CheckpointStore(folder, 0).list(); !checkpoints.empty())
            return checkpoints.back().path;
    fail(ExitCode::kMissingInput,
         "{}: contains no checkpoint (expected {} and other files, or folders named {})", path.string(),
         kManifestName, step_name(100));
}

}  // namespace pastur
