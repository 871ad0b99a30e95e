#include "engine/ranks/comm.h"

namespace pastur {

int64_t exchange_bytes(Transport transport, bool on_gpu, int64_t bucket_bytes, bool ordered, DType wire) {
    const bool narrow = wire == DType::kBF16;
    switch (transport) {
        case Transport::kNone:  // what is rounded as it would be between ranks
            return ordered && narrow ? align_up(bucket_bytes / 2) : 0;
        // NCCL sums in place, except in a given order: then the parts of all ranks arrive first. In bf16 they
        // arrive next to the numbers that are sent.
        case Transport::kNccl:
            if (narrow) return 2 * align_up(bucket_bytes / 2);
            return ordered ? align_up(bucket_bytes) : 0;
        case Transport::kMpi:
            return on_gpu ? 0 : kMpiExchanges * bucket_bytes;  // in bf16 also what is sent
        // The parts that arrived and on rank 0 those that it forwards; in bf16 also what is sent.
        case Transport::kTcp:
            return narrow ? bucket_bytes / 2 * 3 : 2 * bucket_bytes;
    }
    return 0;
}

Transport choose_transport(const World& world, const Context& ctx, const std::string& choice) {
    if (choice != "auto" && choice != "mpi" && choice != "nccl" && choice != "tcp")
        fail(ExitCode::kUsage, "--comm {}: expected auto, mpi, nccl or tcp", choice);
    if (choice == "nccl" && !is_cuda(ctx))
        fail(ExitCode::kUsage, "--comm nccl needs GPUs: this run computes on the CPU");
    if (choice == "tcp" && is_cuda(ctx))
        fail(ExitCode::kUsage, "--comm tcp is for ranks on CPUs: this run computes on a GPU");
    if (choice == "nccl" || (choice == "auto" && is_cuda(ctx) && world.size() > 1)) return Transport::kNccl;
    if (world.kind() == Launch::Kind::kMpi && choice != "tcp") return Transport::kMpi;
    if (world.size() == 1) return Transport::kNone;
    if (choice == "mpi")
        fail(ExitCode::kUsage,
             "--comm mpi needs ranks that mpirun or srun --mpi=pmix started; variables started these {}",
             world.size());
    return Transport::kTcp;
}

std::unique_ptr<Comm> make_comm(World& world, Context& ctx, const std::string& choice) {
    switch (choose_transport(world, ctx, choice)) {
        case Transport::kNone:
            return make_single_comm();
        case Transport::kMpi:
            return make_mpi_comm(world);
        case Transport::kTcp:
            return make_tcp_comm(world);
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
