#if defined(PASTUR_HAVE_MPI)
#include "engine/ranks/mpi_check.h"

#include <mpi.h>

#include <string>

#include "kernels/base/error.h"

namespace pastur {

void check_mpi(int status, const char* call) {
    if (status == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(status, text, &length);
    fail(ExitCode::kRankLost, "{}: {}", call, std::string(text, static_cast<size_t>(length)));
}

void check_thread_support(int granted) {
    if (granted >= MPI_THREAD_FUNNELED) return;
    fail(
        ExitCode::kOther,
        "this MPI grants MPI_THREAD_SINGLE, but ranks need MPI_THREAD_FUNNELED: use an MPI built with thread "
        "support");
}

}  // namespace pastur
#endif
