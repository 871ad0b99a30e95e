#pragma once
// Sums of the parts of a tensor over MPI ranks, in the order of the ranks and under way while others compute.
#include <deque>
#include <memory>
#include <vector>

#include "engine/ranks/comm.h"
#include "engine/ranks/mpi_check.h"

namespace pastur {

/// A sum is an all-to-all of parts, added up here, and where it is to be whole an all-gather of the results:
/// as many bytes as a ring moves, in an order that MPI's choice of algorithm cannot change. MPI moves nothing
/// between calls into it: progress() is what makes exchanges overlap with computation.
class MpiJobs {
  public:
    MpiJobs();
    ~MpiJobs();
    MpiJobs(const MpiJobs&) = delete;
    MpiJobs& operator=(const MpiJobs&) = delete;

    enum class Then : uint8_t { kNothing, kGather };
    /// total f32 [n] = or += the rank-th parts of every x f32 [size n]; then x = all totals, if asked for.
    void begin_sum(Context& ctx, Tensor total, ConstTensor x, Update update, Then then, Tensor gathered);
    /// Gathers the parts of x f32 [size n].
    void begin_gather(Context& ctx, Tensor x);
    void progress(Context& ctx) { advance(ctx, false); }
    void finish(Context& ctx) { advance(ctx, true); }

  private:
    /// One tensor on its way. `received` holds what others sent; `staged` the host's copy of a device tensor.
    struct Job {
        enum class Stage : uint8_t { kExchange, kSummed, kGather, kDone };
        Stage stage;
        Tensor total, gathered;
        Update update;
        Then then;
        std::vector<float> staged, received;
        MPI_Request request;
    };
    void advance(Context& ctx, bool wait);
    void add_up(Context& ctx, Job& job);
    void start_gather(Context& ctx, Job& job);
    void end_gather(Context& ctx, Job& job);
    std::vector<float> take_buffer(int64_t count);

    int rank_ = 0, size_ = 1;
    CpuContext host_;
    // Gathers begin when a sum is ready, which is at other moments on other ranks: in a communicator of their
    // own they still begin in one order.
    MPI_Comm exchanges_ = MPI_COMM_NULL, gathers_ = MPI_COMM_NULL;
    std::deque<std::unique_ptr<Job>> jobs_;
    std::vector<std::vector<float>> spare_;  ///< buffers of past jobs: their pages are there already
};

}  // namespace pastur
