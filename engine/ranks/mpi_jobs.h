#pragma once
// Sums over MPI ranks in the order of the ranks, which overlap with computation.
#include <mpi.h>

#include <deque>
#include <memory>
#include <vector>

#include "engine/ranks/comm.h"
#include "engine/ranks/mpi_check.h"

namespace pastur {

/// A sum is an all-to-all of the ranks' parts, which are added up here; if every rank needs the whole sum, an
/// all-gather of the results follows. That moves as many bytes as a ring all-reduce, in an order that MPI's
/// choice of algorithm cannot change. MPI transfers data only within calls into it, so progress() is what
/// makes exchanges overlap with computation.
class MpiJobs {
  public:
    MpiJobs();
    ~MpiJobs();
    MpiJobs(const MpiJobs&) = delete;
    MpiJobs& operator=(const MpiJobs&) = delete;

    enum class Then : uint8_t {
        kNothing,
        kRound,   ///< the total is rounded to the wire's dtype
        kGather,  ///< also, gathered f32 [size n] = the totals of all ranks
    };
    /// total f32 [n] = or += the sum of the rank-th parts of every rank's x f32 [size n], which travels as `wire`.
    struct Sum {
        Tensor total;
        ConstTensor x;
        Update update;
        Then then;
        Tensor gathered;
        DType wire;
    };
    void begin_sum(Context& ctx, const Sum& sum);
    /// Gathers the parts of x f32 [size n].
    void begin_gather(Context& ctx, Tensor x);
    void progress(Context& ctx) { advance(ctx, false); }
    void finish(Context& ctx) { advance(ctx, true); }

  private:
    /// One sum or gather. `received`: the parts that the ranks sent; `staged`: the host copy of a device tensor;
    /// `narrow`: what travels as bf16, first the numbers of this rank, then the totals of all.
    struct Job {
        enum class Stage : uint8_t { kExchange, kSummed, kGather, kDone };
        Stage stage;
        Sum sum;
        std::vector<float> staged = {}, received = {}, narrow = {};
        MPI_Request request = MPI_REQUEST_NULL;
    };
    void advance(Context& ctx, bool wait);
    void add_up(Context& ctx, Job& job);
    void start_gather(Context& ctx, Job& job);
    void end_gather(Context& ctx, Job& job);
    std::vector<float> take_buffer(int64_t bytes);
    CpuContext& host(Context& ctx) { return is_cuda(ctx) ? host_ : std::get<CpuContext>(ctx); }

    int rank_ = 0, size_ = 1;
    CpuContext host_;
    // A gather begins when its sum is ready, between exchanges that differ from rank to rank. A communicator of
    // their own keeps gathers in one order.
    MPI_Comm exchanges_ = MPI_COMM_NULL, gathers_ = MPI_COMM_NULL;
    std::deque<std::unique_ptr<Job>> jobs_;
    std::vector<std::vector<float>> spare_;  ///< buffers of past jobs, whose pages are already mapped
};

}  // namespace pastur
