#include "kernels/base/context.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kernels/base/threads.h"
#include "kernels/cpu/blas_memory.h"
#include "kernels/cpu/parallel.h"

extern "C" void openblas_set_num_threads(int threads);

namespace pastur {

CpuContext::CpuContext(int threads) {
    if (threads <= 0) {
        // omp_get_max_threads honours OMP_NUM_THREADS and the affinity mask that mpirun sets.
        threads = omp_get_max_threads();
    }
    threads_ = threads;
    check_threads(threads - 1);
    reserve_blas_buffers(threads);
    omp_set_num_threads(threads);
    // OpenBLAS runs one thread per call, inside parallel regions: it has no second thread pool that competes
    // for the cores, and the bits of a GEMM do not depend on how OpenBLAS would divide it.
    openblas_set_num_threads(1);
}

void CpuContext::reserve_scratch(int64_t bytes) {
    scratch_ = Arena(allocate(*this, bytes));
}

std::string device_name(CpuContext& ctx) {
    std::ifstream info("/proc/cpuinfo");
    std::string line, model = "cpu";
    while (std::getline(info, line)) {
        if (line.rfind("model name", 0) == 0) {
            model = line.substr(line.find(':') + 2);
            break;
        }
    }
    return fmt::format("{} ({} threads)", model, ctx.threads());
}

MemoryInfo memory_info(CpuContext&) {
    return host_memory_info();
}

Buffer allocate(CpuContext&, int64_t bytes) {
    if (bytes == 0) return {};
    void* data = std::aligned_alloc(static_cast<size_t>(kAlignment), static_cast<size_t>(align_up(bytes)));
    if (!data) fail(ExitCode::kNoDevice, "out of host memory: allocation of {} bytes failed", bytes);
    return Buffer(data, bytes, [](void* pointer) noexcept { std::free(pointer); });
}

Buffer allocate_host(CpuContext& ctx, int64_t bytes) {
    return allocate(ctx, bytes);
}

void synchronize(CpuContext&) {}

void copy(CpuContext& ctx, Tensor dst, ConstTensor src) {
    const RowCopy copy = row_copy("copy", dst, src);
    if (dst.bytes() == src.bytes()) return;
    // A single thread cannot saturate memory bandwidth.
    constexpr int64_t kPiece = int64_t{1} << 18;
    const int64_t per_row = (copy.row_bytes + kPiece - 1) / kPiece, pieces = copy.rows * per_row;
    parallel_for(ctx, pieces, pieces > 1 ? kPiece : 0, [&](int64_t i) {
        const int64_t row = i / per_row, begin = i % per_row * kPiece;
        const int64_t count = std::min(kPiece, copy.row_bytes - begin);
        std::memcpy(dst.bytes() + row * copy.dst_pitch + begin, src.bytes() + row * copy.src_pitch + begin,
                    static_cast<size_t>(count));
    });
}

void upload(CpuContext& ctx, Tensor dst, ConstTensor src) {
    copy(ctx, dst, src);
}
void download(CpuContext& ctx, Tensor dst, ConstTensor src) {
    copy(ctx, dst, src);
}
void begin_download(CpuContext& ctx, Tensor dst, ConstTensor src) {
    copy(ctx, dst, src);
}

}  // namespace pastur
