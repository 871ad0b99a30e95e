#pragma once
// The checkpoints of one run: restored on every rank, written in the background.
#include <filesystem>
#include <functional>
#include <string>

#include "engine/ranks/comm.h"
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

    /// CheckpointStore::prepare(); rank 0 calls it before the first save().
    void prepare(int64_t resumed) { store_.prepare(resumed); }

    /// Copies the state and begins to write it in the background; the checkpoint before is drained. Every
    /// rank calls it; where moments are divided, each writes its own. Times count from `begin`.
    void save(Context& ctx, Comm& comm, TrainingSetup& setup, const TrainState& state,
              Clock::time_point begin);

    /// The checkpoint that has become durable since the last call. Throws what its writing failed with.
    std::optional<Written> poll() { return writer_.poll(); }
    /// Waits for the checkpoint being written; otherwise as poll().
    std::optional<Written> drain() { return writer_.drain(); }

  private:
    std::vector<int64_t> steps_on_root(Comm& comm) const;
    void load(const std::filesystem::path& path, Context& ctx, TrainingSetup& setup, TrainState& state,
              const Say& say) const;

    Config config_;
    CheckpointStore store_;
    CheckpointWriter writer_;
};

}  // namespace pastur
