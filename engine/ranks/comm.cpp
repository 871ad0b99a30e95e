#include "engine/ranks/comm.h"

namespace pastur {

std::unique_ptr<Comm> make_comm(World& world, Context& ctx, const std::string& choice) {
    if (choice == "nccl" || (choice == "auto" && is_cuda(ctx) && world.size() > 1)) {
        if (!is_cuda(ctx)) fail(ExitCode::kUsage, "--comm nccl needs GPUs: this run computes on the CPU");
        std::unique_ptr<Comm> comm = make_nccl_comm(world, ctx);
        if (!comm)
            fail(ExitCode::kNoDevice, "this build has no NCCL: build it where nccl.h is, or --comm mpi");
        return comm;
    }
    if (choice != "mpi" && choice != "auto")
        fail(ExitCode::kUsage, "--comm {}: expected auto, mpi or nccl", choice);
    if (world.kind() == Launch::Kind::kMpi) return make_mpi_comm(world);
    if (world.size() > 1)
        fail(ExitCode::kUsage,
             "{} ranks were started by variables alone, which NCCL between GPUs can use; {} need MPI: start "
             "them "
             "by mpirun, or srun --mpi=pmix",
             world.size(), is_cuda(ctx) ? "ranks over --comm mpi" : "ranks that compute on the CPU");
    return make_single_comm();
}

}  // namespace pastur
