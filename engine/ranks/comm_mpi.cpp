// Data parallelism over MPI: between CPU ranks, and through host memory between ranks that share a GPU.
#if defined(PASTUR_HAVE_MPI)
#include <mpi.h>

#include <vector>

#include "engine/ranks/comm.h"
#include "engine/ranks/mpi_jobs.h"

namespace pastur {
namespace {

MPI_Datatype mpi_type(DType dtype) {
    PASTUR_CHECK(dtype == DType::kF32 || dtype == DType::kF64, "all_reduce_sum of {}", name_of(dtype));
    return dtype == DType::kF32 ? MPI_FLOAT : MPI_DOUBLE;
}

class MpiComm final : public Comm {
  public:
    explicit MpiComm(World& world) : Comm(world, Transport::kMpi) {}

    void all_reduce_sum(Context& ctx, Tensor x) override {
        const Whereabouts::Collective here(where_, "all-reduce");
        // Slices bound the host memory that a device tensor is staged in.
        constexpr int64_t kSlice = int64_t{16} << 20;
        const Tensor flat = x.flat();
        for (int64_t begin = 0; begin < flat.numel(); begin += kSlice) {
            const Tensor slice = flat.slice(0, begin, std::min(kSlice, flat.numel() - begin));
            if (!is_cuda(ctx)) {
                reduce_on_host(slice);
                continue;
            }
            staging_.resize(static_cast<size_t>(slice.nbytes()));
            const Tensor host(staging_.data(), slice.dtype(), slice.shape());
            download(ctx, host, slice);
            reduce_on_host(host);
            upload(ctx, slice, host);
        }
    }

    int all_reduce_max(int value) override {
        const Whereabouts::Collective here(where_, "agreement on the next step");
        int result = 0;
        check_mpi(MPI_Allreduce(&value, &result, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD), "MPI_Allreduce");
        return result;
    }
    void barrier() override {
        const Whereabouts::Collective here(where_, "barrier");
        check_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    }

    void begin_reduce_scatter(Context& ctx, Tensor x, DType wire) override {
        const Whereabouts::Collective here(where_, "reduce-scatter");
        jobs_.begin_sum(ctx, {own_part(x), x, Update::kAssign, MpiJobs::Then::kRound, {}, wire});
    }
    void begin_all_gather(Context& ctx, Tensor x) override { jobs_.begin_gather(ctx, x); }
    void begin_all_reduce(Context& ctx, Tensor x, DType wire) override {
        const Whereabouts::Collective here(where_, "all-reduce of gradients");
        jobs_.begin_sum(ctx, {own_part(x), x, Update::kAssign, MpiJobs::Then::kGather, x, wire});
    }
    void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update, DType wire) override {
        const Whereabouts::Collective here(where_, "ordered sum");
        jobs_.begin_sum(ctx, {total, x, update, MpiJobs::Then::kNothing, {}, wire});
    }
    void progress(Context& ctx) override { jobs_.progress(ctx); }
    void finish(Context& ctx) override {
        const Whereabouts::Collective here(where_, "end of gradients or weights");
        jobs_.finish(ctx);
    }

  private:
    Tensor own_part(const Tensor& x) const {
        const int64_t n = x.numel() / size();
        return x.slice(0, rank() * n, n);
    }
    static void reduce_on_host(Tensor x) {
        check_mpi(MPI_Allreduce(MPI_IN_PLACE, x.bytes(), static_cast<int>(x.numel()), mpi_type(x.dtype()),
                                MPI_SUM, MPI_COMM_WORLD),
                  "MPI_Allreduce");
    }
    MpiJobs jobs_;
    std::vector<std::byte> staging_;
};

}  // namespace

std::unique_ptr<Comm> make_mpi_comm(World& world) {
    return std::make_unique<MpiComm>(world);
}

}  // namespace pastur
#else
#include "engine/ranks/comm.h"

namespace pastur {

std::unique_ptr<Comm> make_mpi_comm(World&) {
    return nullptr;
}

}  // namespace pastur
#endif
