#pragma once
// How much host memory this process can still allocate.
#include <filesystem>

#include "kernels/base/context.h"

namespace pastur {

/// Limits of a process, in bytes; -1: none.
struct ProcessLimits {
    int64_t address_space = -1;  ///< RLIMIT_AS, `ulimit -v`
    int64_t data = -1;           ///< RLIMIT_DATA, `ulimit -d`
};

/// The limits in force for this process.
ProcessLimits process_limits();

/// What the limits of this process leave; -1: there are none. `root` is the folder that contains proc.
int64_t bytes_under_limits(const std::filesystem::path& root, const ProcessLimits& limits);

/// The least of the machine's memory (/proc/meminfo), of what every memory cgroup of this process leaves, from its
/// own up to the outermost visible one (versions 1 and 2), and of what `limits` leave. Pages of files that have
/// not been read lately count as free in a cgroup, because the system reclaims them. `root` is the folder that
/// contains proc and the mounted cgroups.
MemoryInfo read_host_memory(const std::filesystem::path& root, const ProcessLimits& limits);

}  // namespace pastur
