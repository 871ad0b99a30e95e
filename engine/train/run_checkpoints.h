#pragma once
// The checkpoints of one run: restored on every rank, written in the background.
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/ranks/comm.h"
#include "engine/train/checkpoint/checkpoint_hook.h"
#include "engine/train/checkpoint/checkpoint_writer.h"
#include "engine/train/training_setup.h"

namespace pastur {

class RunCheckpoints {
  public:
    using Clock = CheckpointWriter::Clock;
    using Written = CheckpointWriter::Written;
    using Say = std::function<void(const std::string&)>;

    /// `owner` is the same on all ranks (RunOwner::token). Accesses no file.
    RunCheckpoints(const std::filesystem::path& folder, const Config& config, int owner);

    /// Loads the newest checkpoint that every rank can check and load; false when there is none. Says which, and
    /// why not a newer one. Every rank calls it; rank 0 owns the run folder. Throws (kUsage) when it belongs to
    /// another recipe, (kCorruptData, kIo) when none can be loaded.
    bool restore(Context& ctx, Comm& comm, TrainingSetup& setup, TrainState& state, const Say& say);

    /// Allocates the host memory that checkpoints are written from; reports if it is not page-locked.
    void allocate(Context& ctx, TrainingSetup& setup, const Say& say);

    /// CheckpointStore::prepare(); rank 0 calls it before the first save(). Starts the hook, if the run has one.
    void prepare(int64_t resumed, const Say& say);

    /// Copies the state and begins to write it in the background; the checkpoint before is drained. Every
    /// rank calls it; where moments are divided, each writes its own. Times count from `begin`.
    void save(Context& ctx, Comm& comm, TrainingSetup& setup, const TrainState& state,
              Clock::time_point begin);

    /// The checkpoint that has become durable since the last call. Throws what its writing failed with.
    std::optional<Written> poll() { return hooked(writer_.poll()); }
    /// Waits for the checkpoint being written; otherwise as poll().
    std::optional<Written> drain() { return hooked(writer_.drain()); }

    /// Runs the hook for the checkpoint that the run resumed from, unless one of the same step is written first.
    void hook_restored(int64_t step);
    /// Hooks that have ended since the last call.
    std::vector<CheckpointHook::Finished> poll_hooks();
    /// The end of the run: waits for hooks, stops those that run beyond `limit` or when interrupted() is true, and
    /// removes the checkpoints that only they needed.
    void finish_hooks(std::chrono::milliseconds limit, const std::function<bool()>& interrupted,
                      const Say& say);

  private:
    /// Hands a checkpoint to the hook.
    std::optional<Written> hooked(std::optional<Written> written);
    std::vector<int64_t> steps_on_root(Comm& comm) const;
    void load(const std::filesystem::path& path, Context& ctx, TrainingSetup& setup, TrainState& state,
              const Say& say) const;

    Config config_;
    CheckpointStore store_;
    CheckpointWriter writer_;
    std::filesystem::path run_dir_;
    std::unique_ptr<CheckpointHook> hook_;  ///< null: no run.hook, or not rank 0
    int64_t restored_ = -1;                 ///< step of a checkpoint that hook_ has yet to get; -1: none
};

}  // namespace pastur
