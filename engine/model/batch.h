#pragma once
// Token batches on their way from shards to the device.
#include <chrono>
#include <exception>
#include <functional>
#include <future>
#include <optional>
#include <vector>

#include "data/loader.h"
#include "engine/model/batch_shape.h"
#include "kernels/base/context.h"
#include "kernels/base/memory.h"

namespace pastur {

/// B sequences of T tokens on the host and, for each position, the token that follows. Padding has the token 0, whose
/// outputs no other position reads, and the target -1, which the loss ignores.
struct TokenBatch {
    std::vector<int32_t> tokens, targets;  ///< [B T] each
};

/// Reads sequence i, in the reader's order, into out [T + 1]; -1 for padding, at its end.
using ReadSequence = std::function<void(int64_t, std::span<int32_t>)>;

/// Reads one batch: sequences [first, first + B).
TokenBatch read_batch(const ReadSequence& read, int64_t first, const BatchShape& shape);

/// Returns the micro-batches of consecutive steps. Those of the next step are read in the background while the
/// device works, all of them before the step begins: what cannot be read is known between steps.
class BatchStream {
  public:
    /// A step reads `batches` micro-batches, the first one from sequence `first` on.
    BatchStream(ReadSequence read, int64_t first, int64_t batches, const BatchShape& shape);
    BatchStream(const BatchStream&) = delete;  // the background read refers to this object
    BatchStream& operator=(const BatchStream&) = delete;
    /// Waits at most `time`. Returns whether the next step's batches were read or reading them failed.
    bool ready_within(std::chrono::milliseconds time) const {
        return next_step_ || pending_.wait_for(time) == std::future_status::ready;
    }
    /// What reading the next step's batches threw; null: nothing. Waits for them.
    std::exception_ptr failure();
    /// The next micro-batch. The first one of a step throws failure().
    TokenBatch next();

  private:
    struct Step {
        std::vector<TokenBatch> batches;
        std::exception_ptr failure;
    };
    Step read_step(int64_t first) const;
    void prefetch();
    ReadSequence read_;
    int64_t next_, batches_;
    BatchShape shape_;
    std::vector<TokenBatch> step_;  ///< the rest of the present step's, the next one at the end
    std::optional<Step> next_step_;
    std::future<Step> pending_;  ///< last: its thread uses the members above
};

/// The device's copy of one batch, and the losses computed from it.
class DeviceBatch {
  public:
    DeviceBatch(Context& ctx, const BatchShape& shape);
    void upload(Context& ctx, const TokenBatch& batch);
    ConstTensor tokens() const { return tokens_; }
    ConstTensor targets() const { return targets_; }
    Tensor losses() const { return losses_; }
    static int64_t bytes(const BatchShape& shape) { return 3 * align_up(shape.tokens() * 4); }

  private:
    Buffer buffer_;
    Tensor tokens_, targets_;  ///< i32 [N]
    Tensor losses_;            ///< f32 [N]
};

}  // namespace pastur
