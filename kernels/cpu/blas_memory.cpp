#include "kernels/cpu/blas_memory.h"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/host_memory.h"

// Internal functions of OpenBLAS; other BLAS libraries do not have them.
extern "C" {
[[gnu::weak]] void* blas_memory_alloc(int procpos);
[[gnu::weak]] void blas_memory_free(void* buffer);
}

namespace pastur {

void reserve_blas_buffers(int threads) {
    constexpr int64_t kBytes = (int64_t{32} << 22) + (1 << 20);  // BUFFER_SIZE on x86-64, and alignment
    constexpr int kMost = 128;                                   // OpenBLAS has at least as many
    static std::mutex mutex;
    static int reserved = 0;
    const std::lock_guard<std::mutex> lock(mutex);
    const int wanted = std::min(threads, kMost);
    const int64_t room = bytes_under_limits("/", process_limits());
    if (room < 0 || !blas_memory_alloc || !blas_memory_free || wanted <= reserved) return;
    const int64_t needed = (wanted - reserved) * kBytes;
    if (room < needed)
        fail(
            ExitCode::kNoDevice,
            "raise `ulimit -v` or lower OMP_NUM_THREADS: OpenBLAS needs {} MiB of address space for {} threads, "
            "the limits of this process leave {} MiB",
            needed >> 20, wanted, room >> 20);
    std::vector<void*> buffers;
    for (int i = 0; i < wanted; ++i) buffers.push_back(blas_memory_alloc(0));
    for (void* buffer : buffers) blas_memory_free(buffer);
    reserved = wanted;
}

}  // namespace pastur
