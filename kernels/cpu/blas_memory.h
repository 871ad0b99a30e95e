#pragma once

namespace pastur {

/// OpenBLAS maps a buffer for each thread that is inside a call at the same time. Where a limit of the process
/// (`ulimit -v`, `ulimit -d`) forbids the map, it tries again for ever. So under such a limit this maps the buffers
/// of `threads` threads, all in all, in advance, and what the limits leave then no longer includes them. Throws
/// (kNoDevice) if the limits leave too little. Does nothing without a limit.
void reserve_blas_buffers(int threads);

}  // namespace pastur
