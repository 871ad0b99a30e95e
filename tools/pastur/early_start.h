#pragma once

namespace pastur {

/// Restores the environment that the process changed before main(), while libraries started. Call it first in main().
///
/// Before any library's constructors, as early as the C library allows, the process
/// - opens descriptors 0 to 2 on /dev/null where they are closed, so no file is opened as one of them,
/// - ignores SIGXFSZ, so a write beyond `ulimit -f` fails (74) and does not kill the process,
/// - for `pastur train`, installs the handlers of engine/train/stop_request.h, so an early signal ends the run
///   with a checkpoint,
/// - sets OPENBLAS_NUM_THREADS to 1 in place of a variable that libraries do not read, so OpenBLAS, which starts its
///   threads in its constructor, starts none: Pastur calls it from its own threads.
void finish_early_start();

}  // namespace pastur
