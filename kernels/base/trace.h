#pragma once
// What a profiler shows of a run: named ranges on its timeline, and the stretch that it records.
#include "kernels/base/context.h"

namespace pastur {

/// A range on the calling thread's timeline in Nsight Systems (NVTX), from construction to destruction; ranges nest.
/// Without a profiler, or without NVTX's headers at build time, a range costs two calls of a few instructions; one with a
/// number also the digits, about 30 ns.
class TraceRange {
  public:
    explicit TraceRange(const char* name);
    /// "<name> <number>"; a name has at most 40 characters.
    TraceRange(const char* name, int64_t number);
    ~TraceRange();
    TraceRange(const TraceRange&) = delete;
    TraceRange& operator=(const TraceRange&) = delete;
};

/// Tells a profiler that waits for it (`nsys profile -c cudaProfilerApi`) to record from now on. Returns false on the CPU,
/// whose profilers wait for nothing.
bool start_profiler(Context& ctx);
/// Ends what start_profiler() began.
void stop_profiler(Context& ctx);

bool start_profiler(CpuContext& ctx);
void stop_profiler(CpuContext& ctx);
#if defined(PASTUR_HAVE_CUDA)
bool start_profiler(CudaContext& ctx);
void stop_profiler(CudaContext& ctx);
#endif

}  // namespace pastur
