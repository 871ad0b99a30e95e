#pragma once
// Checkpoints written beside training: a step waits for the copy of its numbers, not for the disk.
#include <chrono>
#include <future>
#include <memory>
#include <optional>

#include "engine/checkpoint_store.h"
#include "engine/optimizer.h"
#include "engine/train_state.h"

namespace pastur {

/// At most one checkpoint is being written, by a thread of its own, from a copy of weights and moments in
/// host memory. What training does meanwhile is not in it.
class CheckpointWriter {
  public:
    using Clock = std::chrono::steady_clock;

    /// Host memory of the copy.
    static int64_t planned_bytes(const Parameters& params) { return 3 * params.master_bytes(); }

    /// `store` is prepared before the first start(), and outlives the writer.
    CheckpointWriter(CheckpointStore& store, const Config& config);
    /// Waits for the checkpoint being written; nobody hears of its failure.
    ~CheckpointWriter();

    /// Takes the memory of the copy, for good. False: not the kind that the device copies to fastest.
    bool allocate(Context& ctx, const Parameters& params);

    struct Written {
        int64_t step;
        std::filesystem::path path;
        double blocking_ms, total_ms;  ///< that training waited, and until it was durable
    };

    /// Copies, and begins to write. Times count from `begin`. No checkpoint is being written.
    void start(Context& ctx, const Parameters& params, const AdamW& optimizer, const TrainState& state,
               Clock::time_point begin);
    /// The checkpoint that has become durable since the last call. Throws what its writing failed with: then
    /// the earlier ones are as they were.
    std::optional<Written> poll();
    /// The same, waiting for it.
    std::optional<Written> drain();

  private:
    struct HostCopy;
    CheckpointStore& store_;
    Config config_;
    std::unique_ptr<HostCopy> copy_;
    std::future<Written> writing_;  ///< last: its thread reads the copy
};

}  // namespace pastur
