#include "kernels/base/trace.h"

#include <cuda_profiler_api.h>

#include "kernels/cuda/check.h"

namespace pastur {

bool start_profiler(CudaContext& ctx) {
    synchronize(ctx);  // work that was queued before is not part of it
    CUDA_CHECK(cudaProfilerStart());
    return true;
}

void stop_profiler(CudaContext& ctx) {
    synchronize(ctx);
    CUDA_CHECK(cudaProfilerStop());
}

}  // namespace pastur
