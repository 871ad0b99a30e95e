#pragma once
// The checkpoints of a run. Each is complete or absent, even if a write is interrupted.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace pastur {

/// Folders named step_00000100 in one parent, and a text file `latest` with the name of the newest.
///
/// A checkpoint is written to .tmp-step_00000100-<owner>. Its files are fsynced, MANIFEST.json is added, the folder
/// is renamed and the parent is fsynced. Only then is `latest` updated and are old checkpoints removed; one
/// that cannot be removed yet (another host may read it over NFS) is removed later. A crash at any point
/// leaves the last good checkpoint, and the next start removes incomplete ones.
class CheckpointStore {
  public:
    struct Checkpoint {
        int64_t step;
        std::filesystem::path path;
    };

    /// Keeps the newest `keep` checkpoints; 0: all. `owner` is part of the names of temporary folders: ranks
    /// that outlive their job cannot write into a folder of the next one. Accesses no file.
    CheckpointStore(std::filesystem::path folder, int64_t keep, int owner = 0);

    /// Puts back a checkpoint whose replacement was interrupted and removes what an interrupted write or removal
    /// left. Only the process that owns the run folder may call it: to others, a checkpoint being written looks
    /// the same.
    void recover();
    /// Creates the folder and calls recover(). The writing process calls it once. resumed: the step from which the run continues, to which `latest` is set; -1: none.
    void prepare(int64_t resumed = -1);

    /// Calls `fill` with the temporary folder, completes the checkpoint and returns its path. Replaces a
    /// checkpoint of the same step. Throws what fill throws, and (kIo); earlier checkpoints are then
    /// unchanged and the temporary folder is removed if possible.
    std::filesystem::path write(int64_t step, const std::function<void(const std::filesystem::path&)>& fill);
    /// The two halves of write(), for checkpoints to which several ranks write. begin() creates the empty
    /// temporary folder, into which other ranks may then write; complete() does the rest.
    void begin(int64_t step);
    std::filesystem::path complete(int64_t step,
                                   const std::function<void(const std::filesystem::path&)>& fill);
    std::filesystem::path temporary_folder(int64_t step) const;

    /// From now on the checkpoints of these steps are in use and stay, whatever `keep` says. Any thread may call it.
    void hold(std::set<int64_t> steps);
    /// Removes the checkpoints that `keep` does not spare and that were in use when the last one was completed.
    void tidy() const;

    /// Where the checkpoint of a step is or would be.
    Checkpoint at(int64_t step) const;
    /// By ascending step; judged by their names, not verified.
    std::vector<Checkpoint> list() const;

    /// Calls `load` with the path of each of `steps`, from the last to the first, until it does not throw, and
    /// returns that step; nothing if there are no steps. Appends a line to `warnings` for each (kCorruptData,
    /// kMissingInput, kIo) of `load`; other errors pass. Throws if every step failed: (kIo) if one could not be
    /// read, else (kCorruptData).
    std::optional<int64_t> newest_that_loads(std::vector<int64_t> steps,
                                             const std::function<void(const std::filesystem::path&)>& load,
                                             std::vector<std::string>& warnings) const;

    /// The checkpoint folder that a user's path means: itself, the one that a file `latest` names, or the
    /// newest in a folder of checkpoints or of a run. Throws (kMissingInput).
    static std::filesystem::path find(const std::filesystem::path& path);

  private:
    void point_latest(const std::string& name) const;
    void prune(int64_t written) const;

    std::filesystem::path folder_;
    int64_t keep_;
    int owner_;
    int64_t written_ = -1;      ///< step of the last checkpoint completed; -1: none
    mutable std::mutex mutex_;  ///< of held_
    std::set<int64_t> held_;
};

}  // namespace pastur
