// Data parallelism over MPI: between CPU ranks, and between ranks that share a GPU by way of host memory.
#if defined(PASTUR_HAVE_MPI)
#include <mpi.h>

#include <cstdlib>
#include <vector>

#include "engine/comm.h"
#include "engine/mpi_jobs.h"

namespace pastur {
namespace {

MPI_Datatype mpi_type(DType dtype) {
    PASTUR_CHECK(dtype == DType::kF32 || dtype == DType::kF64, "all_reduce_sum of {}", name_of(dtype));
    return dtype == DType::kF32 ? MPI_FLOAT : MPI_DOUBLE;
}

class MpiComm final : public Comm {
  public:
    MpiComm() {
        int provided = 0;
        check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
        check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
        check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
        check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
        MPI_Comm host;
        check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
                  "MPI_Comm_split_type");
        check_mpi(MPI_Comm_rank(host, &local_rank_), "MPI_Comm_rank");
        MPI_Comm_free(&host);
        jobs_ = std::make_unique<MpiJobs>();
    }
    ~MpiComm() override {
        jobs_.reset();
        MPI_Finalize();
    }

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    int local_rank() const override { return local_rank_; }

    void all_reduce_sum(Context& ctx, Tensor x) override {
        // Slices bound the host memory a device tensor passes through.
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
        int result = 0;
        check_mpi(MPI_Allreduce(&value, &result, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD), "MPI_Allreduce");
        return result;
    }
    void barrier() override { check_mpi(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }

    void begin_reduce_scatter(Context& ctx, Tensor x) override {
        jobs_->begin_sum(ctx, own_part(x), x, Update::kAssign, MpiJobs::Then::kNothing, {});
    }
    void begin_all_gather(Context& ctx, Tensor x) override { jobs_->begin_gather(ctx, x); }
    void begin_all_reduce(Context& ctx, Tensor x) override {
        jobs_->begin_sum(ctx, own_part(x), x, Update::kAssign, MpiJobs::Then::kGather, x);
    }
    void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update) override {
        jobs_->begin_sum(ctx, total, x, update, MpiJobs::Then::kNothing, {});
    }
    void progress(Context& ctx) override { jobs_->progress(ctx); }
    void finish(Context& ctx) override { jobs_->finish(ctx); }

    void abort(int code) override {
        if (size_ > 1) MPI_Abort(MPI_COMM_WORLD, code);
    }

  private:
    Tensor own_part(const Tensor& x) const {
        const int64_t n = x.numel() / size_;
        return x.slice(0, rank_ * n, n);
    }
    static void reduce_on_host(Tensor x) {
        check_mpi(MPI_Allreduce(MPI_IN_PLACE, x.bytes(), static_cast<int>(x.numel()), mpi_type(x.dtype()),
                                MPI_SUM, MPI_COMM_WORLD),
                  "MPI_Allreduce");
    }
    int rank_ = 0, size_ = 1, local_rank_ = 0;
    std::unique_ptr<MpiJobs> jobs_;
    std::vector<std::byte> staging_;
};

/// Started by mpirun or srun? Initialising MPI outside a job costs time and memory for nothing.
bool in_mpi_job() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"})
        if (std::getenv(name)) return true;
    return false;
}

}  // namespace

std::unique_ptr<Comm> make_comm() {
    if (in_mpi_job()) return std::make_unique<MpiComm>();
    return make_single_comm();
}

}  // namespace pastur
#endif
