#pragma once
// Checkpoints written in the background: training waits for a copy in host memory, not for the disk.
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>

#include "engine/train/checkpoint/checkpoint_image.h"
#include "engine/train/checkpoint/checkpoint_store.h"
#include "engine/train/checkpoint/train_state.h"
#include "engine/train/hugging_face/hf_files.h"

namespace pastur {

/// A separate thread writes at most one checkpoint at a time, from a copy of weights and moments in host
/// memory that later steps do not change. If moments are divided over the ranks, every rank writes its own;
/// rank 0 writes everything else and waits for the other ranks' files.
class CheckpointWriter {
  public:
    using Clock = std::chrono::steady_clock;

    /// `store` must be prepared before the first start() and outlive the writer.
    CheckpointWriter(CheckpointStore& store, const Config& config);
    /// Waits for the checkpoint being written, but not for other ranks; its failure is not reported.
    ~CheckpointWriter();

    /// Allocates the memory of the copy for the writer's lifetime, and reads what checkpoints copy from the data
    /// folder, so a folder that vanishes later stops no checkpoint. Returns false if it is not page-locked, so
    /// copying from the device is slower.
    bool allocate(Context& ctx, const Parameters& params, const Optimizer& optimizer, int rank, int ranks);

    struct Written {
        int64_t step;
        std::filesystem::path path;
        double blocking_ms, total_ms;  ///< how long training waited, and until the checkpoint was durable
    };

    /// Copies weights and moments and begins to write them. Times count from `begin`. The checkpoint before
    /// must be drained. If moments are divided, store.begin() must precede any rank's call.
    void start(Context& ctx, const Parameters& params, const Optimizer& optimizer, const TrainState& state,
               Clock::time_point begin);
    /// The checkpoint (or this rank's part of it) that has become durable since the last call. Throws what
    /// its writing failed with, in which case earlier checkpoints are unchanged; kRankLost if another rank's
    /// part did not appear within train.comm_timeout_s.
    std::optional<Written> poll();
    /// As poll(), but waits for the checkpoint being written.
    std::optional<Written> drain();

  private:
    std::filesystem::path write(const TrainState& state) const;
    void wait_for_parts(const std::filesystem::path& folder) const;

    CheckpointStore& store_;
    Config config_;
    int rank_ = 0, ranks_ = 1;
    std::vector<TextFile> hf_files_;        ///< on rank 0
    std::optional<CheckpointImage> image_;  ///< none: this rank writes nothing
    std::atomic<bool> abandoned_ = false;   ///< no longer wait for other ranks
    std::future<Written> writing_;          ///< last: its thread reads the image
};

}  // namespace pastur
