#pragma once
// Token batches on their way from shards to the device.
#include <chrono>
#include <functional>
#include <future>
#include <vector>

#include "data/loader.h"
#include "engine/model/batch_shape.h"
#include "kernels/base/context.h"
#include "kernels/base/memory.h"

namespace pastur {

/// B sequences of T tokens on the host and, for each position, the token that follows.
struct TokenBatch {
    std::vector<int32_t> tokens, targets;  ///< [B T] each
};

/// Reads sequence i, in the reader's order, into out [T + 1].
using ReadSequence = std::function<void(int64_t, std::span<int32_t>)>;

/// Reads one batch: sequences [first, first + B).
TokenBatch read_batch(const ReadSequence& read, int64_t first, const BatchShape& shape);

/// Returns consecutive batches; the next one is read in the background while the device works.
class BatchStream {
  public:
    BatchStream(ReadSequence read, int64_t first, const BatchShape& shape);
    BatchStream(const BatchStream&) = delete;  // the background read refers to this object
    BatchStream& operator=(const BatchStream&) = delete;
    TokenBatch next();
    /// Waits at most `time`; whether next() will then return at once.
    bool ready_within(std::chrono::milliseconds time) const {
        return pending_.wait_for(time) == std::future_status::ready;
    }

  private:
    void prefetch();
    ReadSequence read_;
    int64_t next_;
    BatchShape shape_;
    std::future<TokenBatch> pending_;
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
