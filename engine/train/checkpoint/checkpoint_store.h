#pragma once
// The checkpoints of a run: each complete or absent, whatever happens while one is written.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace pastur {

/// Folders step_00000100 in one parent, and `latest` (the name of the newest, as text).
///
/// A checkpoint is written to .tmp-step_00000100; its files are fsynced, MANIFEST.json is added, and the
/// folder is renamed and the parent fsynced. Only then does `latest` move and do old ones go (one that the
/// system does not let go now, say because another host reads it over NFS, goes later). A crash at any point
/// leaves the last good one, and the next start removes what was half-written.
class CheckpointStore {
  public:
    struct Checkpoint {
        int64_t step;
        std::filesystem::path path;
    };

    /// `keep`: the newest checkpoints that stay; 0: all. Touches no file.
    CheckpointStore(std::filesystem::path folder, int64_t keep);

    /// Makes the folder, and removes what an interrupted write or removal left. Once, by the process that
    /// writes. resumed: the step that the run goes on from, which `latest` then names; -1: none.
    void prepare(int64_t resumed = -1);

    /// `fill` writes files into the temporary folder it is given. Replaces a checkpoint of the same step.
    /// Throws what fill throws, and (kIo); then the earlier checkpoints are as they were and the temporary
    /// folder is gone, if the system lets it go. Returns the checkpoint's path.
    std::filesystem::path write(int64_t step, const std::function<void(const std::filesystem::path&)>& fill);
    /// Its two halves, for checkpoints to which several ranks write. begin() makes the temporary folder,
    /// empty, after which the other ranks may write into it; complete() is the rest.
    void begin(int64_t step);
    std::filesystem::path complete(int64_t step,
                                   const std::function<void(const std::filesystem::path&)>& fill);
    std::filesystem::path temporary_folder(int64_t step) const;

    /// Steps ascending; complete by name, not verified.
    std::vector<Checkpoint> list() const;

    /// The newest checkpoint all of whose bytes verify; appends a line to `warnings` for each newer one that
    /// does not. Nothing when there is none. Throws when there are checkpoints but none is intact:
    /// (kIo) where one could not be read, else (kCorruptData).
    std::optional<Checkpoint> newest_intact(std::vector<std::string>& warnings) const;

    /// Checks every byte of a checkpoint folder; throws (kCorruptData, kMissingInput, kIo).
    static void verify(const std::filesystem::path& checkpoint);

    /// A path a user gave: a checkpoint folder itself, a file `latest`, or a folder holding checkpoints (the
    /// newest). Throws (kMissingInput).
    static std::filesystem::path find(const std::filesystem::path& path);

  private:
    void point_latest(const std::string& name) const;
    void prune(int64_t written) const;

    std::filesystem::path folder_;
    int64_t keep_;
};

}  // namespace pastur
