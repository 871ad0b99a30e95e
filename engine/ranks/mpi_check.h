#pragma once
// Status codes of MPI calls as exceptions.

namespace pastur {

/// Throws (kRankLost) with MPI's description of the error.
void check_mpi(int status, const char* call);
/// Throws (kOther) unless the level of thread support that MPI_Init_thread granted allows a process with
/// several threads of which one calls MPI.
void check_thread_support(int granted);

}  // namespace pastur
