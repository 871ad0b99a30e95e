#pragma once
// Checkpoints written beside training: a step waits for the copy of its numbers, not for the disk.
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>

#include "engine/train/checkpoint/checkpoint_image.h"
#include "engine/train/checkpoint/checkpoint_store.h"
#include "engine/train/checkpoint/train_state.h"

namespace pastur {

/// At most one checkpoint is being written, by a thread of its own, from a copy of weights and moments in
/// host memory. What training does meanwhile is not in it. Where moments are divided over the ranks, each has
/// a writer for its own; rank 0's, which writes everything else, waits for the others' files.
class CheckpointWriter {
  public:
    using Clock = std::chrono::steady_clock;

    /// `store` is prepared before the first start(), and outlives the writer.
    CheckpointWriter(CheckpointStore& store, const Config& config);
    /// Waits for what is being written, but not for other ranks; nobody hears of its failure.
    ~CheckpointWriter();

    /// Takes the memory of the copy, for good; for this rank of so many. False: not the kind that the device
    /// copies to fastest.
    bool allocate(Context& ctx, const Parameters& params, const AdamW& optimizer, int rank, int ranks);

    struct Written {
        int64_t step;
        std::filesystem::path path;
        double blocking_ms, total_ms;  ///< that training waited, and until it was durable
    };

    /// Copies, and begins to write. Times count from `begin`. No checkpoint is being written. Where moments
    /// are divided, store.begin() comes before any rank's call.
    void start(Context& ctx, const Parameters& params, const AdamW& optimizer, const TrainState& state,
               Clock::time_point begin);
    /// The checkpoint (this rank's part of it) that has become durable since the last call. Throws what its
    /// writing failed with: then the earlier ones are as they were; kRankLost where another rank's part did
    /// not come within train.comm_timeout_s.
    std::optional<Written> poll();
    /// The same, waiting for it.
    std::optional<Written> drain();

  private:
    std::filesystem::path write(const TrainState& state) const;
    void wait_for_parts(const std::filesystem::path& folder) const;

    CheckpointStore& store_;
    Config config_;
    int rank_ = 0, ranks_ = 1;
    std::optional<CheckpointImage> image_;  ///< none: this rank writes nothing
    std::atomic<bool> abandoned_ = false;   ///< other ranks are not waited for any more
    std::future<Written> writing_;          ///< last: its thread reads the image
};

}  // namespace pastur
