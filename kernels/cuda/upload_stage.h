#pragma once
// Host -> device copies that neither wait for the stream nor need pinned memory of the caller.
#include <cuda_runtime_api.h>

#include "kernels/base/memory.h"

namespace pastur {

/// Two slots of pinned memory. A copy fills them in turn and returns once the last piece lies in a slot; it
/// waits only for a slot whose previous piece is still on its way. (cudaMemcpyAsync from pageable memory may
/// wait for the whole stream, which would stall a training step once a micro-batch.)
class UploadStage {
  public:
    UploadStage();
    ~UploadStage();
    UploadStage(const UploadStage&) = delete;
    UploadStage& operator=(const UploadStage&) = delete;
    /// Queues device `to` = host `from` on the stream; `from` may be reused on return.
    void copy(cudaStream_t stream, std::byte* to, const std::byte* from, int64_t bytes);

  private:
    static constexpr int kSlots = 2;
    static constexpr int64_t kSlotBytes = 4 << 20;
    Buffer memory_;
    cudaEvent_t sent_[kSlots] = {};  ///< recorded behind the last copy out of each slot
    int next_ = 0;
};

}  // namespace pastur
