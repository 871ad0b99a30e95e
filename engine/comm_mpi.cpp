// Data parallelism over MPI: between CPU ranks, and between ranks that share a GPU by way of host memory.
#if defined(PASTUR_HAVE_MPI)
#include <mpi.h>

#include <cstdlib>
#include <vector>

#include "engine/comm.h"

namespace pastur {
namespace {

void check(int status, const char* call) {
    if (status == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(status, text, &length);
    fail(ExitCode::kRankLost, "{}: {}", call, std::string(text, static_cast<size_t>(length)));
}

MPI_Datatype mpi_type(DType dtype) {
    PASTUR_CHECK(dtype == DType::kF32 || dtype == DType::kF64, "all_reduce_sum of {}", name_of(dtype));
    return dtype == DType::kF32 ? MPI_FLOAT : MPI_DOUBLE;
}

class MpiComm final : public Comm {
  public:
    MpiComm() {
        int provided = 0;
        check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
        check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
        check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
        check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
        MPI_Comm host;
        check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host),
              "MPI_Comm_split_type");
        check(MPI_Comm_rank(host, &local_rank_), "MPI_Comm_rank");
        MPI_Comm_free(&host);
    }
    ~MpiComm() override { MPI_Finalize(); }

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
        check(MPI_Allreduce(&value, &result, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD), "MPI_Allreduce");
        return result;
    }
    void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }
    void abort(int code) override {
        if (size_ > 1) MPI_Abort(MPI_COMM_WORLD, code);
    }

  private:
    static void reduce_on_host(Tensor x) {
        check(MPI_Allreduce(MPI_IN_PLACE, x.bytes(), static_cast<int>(x.numel()), mpi_type(x.dtype()),
                            MPI_SUM, MPI_COMM_WORLD),
              "MPI_Allreduce");
    }
    int rank_ = 0, size_ = 1, local_rank_ = 0;
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
