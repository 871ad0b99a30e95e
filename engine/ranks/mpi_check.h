#pragma once
// Status codes of MPI calls as exceptions.
#include <mpi.h>

namespace pastur {

/// Throws (kRankLost) what MPI says went wrong.
void check_mpi(int status, const char* call);

}  // namespace pastur
