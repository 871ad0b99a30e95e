#pragma once
// Copies from pageable host memory to the device that do not wait for the stream.
#include <cuda_runtime_api.h>

#include "kernels/base/memory.h"

namespace pastur {

/// Two slots of pinned memory. A copy fills them in turn and returns when its last piece is in a slot. It
/// waits only for a slot whose previous piece has not reached the device yet. (cudaMemcpyAsync from pageable
/// memory may wait for the whole stream, which would stall a training step once per micro-batch.)
class UploadStage {
  public:
    UploadStage();
    ~UploadStage();
    UploadStage(const UploadStage&) = delete;
    UploadStage& operator=(const UploadStage&) = delete;
    /// Queues the copy from host `from` to device `to` on the stream. `from` may be reused on return.
    void copy(cudaStream_t stream, std::byte* to, const std::byte* from, int64_t bytes);

  private:
    static constexpr int kSlots = 2;
    static constexpr int64_t kSlotBytes = 4 << 20;
    Buffer memory_;
    cudaEvent_t sent_[kSlots] = {};  ///< recorded after the last copy out of each slot
    int next_ = 0;
};

}  // namespace pastur
