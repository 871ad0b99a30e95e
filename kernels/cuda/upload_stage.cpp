#include "kernels/cuda/upload_stage.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/check.h"

namespace pastur {

UploadStage::UploadStage() {
    void* memory = nullptr;
    CUDA_CHECK(cudaHostAlloc(&memory, kSlots * kSlotBytes, cudaHostAllocDefault));
    memory_ = Buffer(memory, kSlots * kSlotBytes,
                     [](void* pointer) noexcept { CUDA_CHECK_LOG(cudaFreeHost(pointer)); });
    for (cudaEvent_t& event : sent_) CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
}

UploadStage::~UploadStage() {
    // Copies out of memory_ may still be pending.
    for (cudaEvent_t event : sent_) {
        CUDA_CHECK_LOG(cudaEventSynchronize(event));
        CUDA_CHECK_LOG(cudaEventDestroy(event));
    }
}

void UploadStage::copy(cudaStream_t stream, std::byte* to, const std::byte* from, int64_t bytes) {
    for (int64_t done = 0; done < bytes; done += kSlotBytes) {
        const auto piece = static_cast<size_t>(std::min(kSlotBytes, bytes - done));
        std::byte* slot = memory_.data() + next_ * kSlotBytes;
        CUDA_CHECK(cudaEventSynchronize(sent_[next_]));
        std::memcpy(slot, from + done, piece);
        CUDA_CHECK(cudaMemcpyAsync(to + done, slot, piece, cudaMemcpyHostToDevice, stream));
        CUDA_CHECK(cudaEventRecord(sent_[next_], stream));
        next_ = (next_ + 1) % kSlots;
    }
}

}  // namespace pastur
