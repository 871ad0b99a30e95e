#pragma once
// How this process was started: alone, or as one of several ranks.
#include <cstdint>
#include <string>
#include <vector>

namespace pastur {

struct Launch {
    enum class Kind : uint8_t {
        kAlone,
        kMpi,    ///< by mpirun, or by srun with MPI's plug-in: MPI knows the rest
        kPlain,  ///< by environment variables alone: rank 0 listens at address and port
    };
    Kind kind = Kind::kAlone;
    int rank = 0, size = 1, local_rank = 0;
    std::string address = {};
    int port = 0;
    uint64_t job = 0;  ///< Slurm's number of the job
};

/// Reads the environment: a variable set by mpirun (in a build with MPI); RANK, WORLD_SIZE, LOCAL_RANK,
/// MASTER_ADDR and MASTER_PORT; or those of a Slurm step of several tasks (SLURM_PROCID, SLURM_STEP_NUM_TASKS,
/// SLURM_LOCALID, and SLURM_STEP_NODELIST for rank 0's address). Throws (kUsage) naming the variable that is
/// missing or not a number.
Launch detect_launch();

/// Whether this build can connect ranks by MPI.
bool has_mpi();

/// Whether mpirun, or srun with MPI's plug-in, started this process.
bool launched_by_mpi();

/// This process's rank if mpirun or srun, which merge the output of all ranks, started it; else 0. Needs no
/// connection to the other ranks, and never throws.
int rank_of_merged_output();

/// The first host of Slurm's list: "gpu[03-05,9],login" -> "gpu03".
std::string first_host(const std::string& nodelist);

}  // namespace pastur
