#if defined(PASTUR_HAVE_MPI)
#include "engine/ranks/mpi_check.h"

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

}  // namespace pastur
#endif
