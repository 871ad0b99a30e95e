#include "engine/ranks/comm.h"

namespace pastur {

int64_t exchange_bytes(Transport transport, bool on_gpu, int64_t bucket_bytes, bool ordered) {
    switch (transport) {
        case Transport::kNone:
            return 0;
        // NCCL sums in place, except in a given order: then the parts of all ranks arrive first.
        case Transport::kNccl:
            return ordered ? align_up(bucket_bytes) : 0;
        case Transport::kMpi:
            return on_gpu ? 0 : kMpiExchanges * bucket_bytes;
    }
    return 0;
}

Transport choose_transport(const World& world, const Context& ctx, const std::string& choice) {
    if (choice != "auto" && choice != "mpi" && choice != "nccl")
        fail(ExitCode::kUsage, "--comm {}: expected auto, mpi or nccl", choice);
    if (choice == "nccl" && !is_cuda(ctx))
        fail(ExitCode::kUsage, "--comm nccl needs GPUs: this run computes on the CPU");
    if (choice == "nccl" || (choice == "auto" && is_cuda(ctx) && world.size() > 1)) return Transport::kNccl;
    if (world.kind() == Launch::Kind::kMpi) return Transport::kMpi;
    if (world.size() > 1)
        fail(ExitCode::kUsage,
             "{} ranks were started by variables alone, which only NCCL between GPUs supports; {} need MPI: "
             "start them with mpirun or srun --mpi=pmix",
             world.size(), is_cuda(ctx) ? "ranks over --comm mpi" : "ranks that compute on the CPU");
    return Transport::kNone;
}

std::unique_ptr<Comm> make_comm(World& world, Context& ctx, const std::string& choice) {
    switch (choose_transport(world, ctx, choice)) {
        case Transport::kNone:
            return make_single_comm();
        case Transport::kMpi:
            return make_mpi_comm(world);
        case Transport::kNccl:
            break;
    }
    std::unique_ptr<Comm> comm = make_nccl_comm(world, ctx);
    if (!comm)
        fail(ExitCode::kNoDevice,
             "this build has no NCCL: use --comm mpi, or build again with nccl.h installed");
    return comm;
}

}  // namespace pastur
