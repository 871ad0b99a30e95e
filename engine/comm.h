#pragma once
// Ranks of one data-parallel job.
#include <memory>

#include "kernels/context.h"

namespace pastur {

/// What is begun runs beside the computation queued on ctx after it; the tensors it uses are not to be
/// touched until finish(). Every rank begins the same things in the same order.
class Comm {
  public:
    virtual ~Comm() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual int local_rank() const = 0;  ///< among the ranks of this host: picks the device
    bool is_root() const { return rank() == 0; }

    /// x = sum over ranks of x, the same bits on every rank. x f32 or f64, contiguous, on ctx's device.
    virtual void all_reduce_sum(Context& ctx, Tensor x) = 0;
    /// Largest value over ranks.
    virtual int all_reduce_max(int value) = 0;
    /// Returns once every rank has called it.
    virtual void barrier() = 0;

    /// x f32 [size n]: its rank-th part of n elements = the sum over ranks. The other parts are then
    /// undefined.
    virtual void begin_reduce_scatter(Context& ctx, Tensor x) = 0;
    /// x f32 [size n]: every part = what the rank of that number has in it.
    virtual void begin_all_gather(Context& ctx, Tensor x) = 0;
    /// Both, one after the other: x f32 [size n] = the sum over ranks, the bits that begin_reduce_scatter
    /// gives.
    virtual void begin_all_reduce(Context& ctx, Tensor x) = 0;
    /// total f32 [n] = or += the rank-th part of rank 0's x f32 [size n], then that of rank 1's, ...: an
    /// order that no library chooses.
    virtual void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update) = 0;
    /// Pushes what has begun; cheap, to be called now and then while there is other work.
    virtual void progress(Context& ctx) = 0;
    /// What was begun is done for whatever is queued on ctx from here on.
    virtual void finish(Context& ctx) = 0;

    /// Ends every rank of the job with this exit code; does not return where there are others.
    virtual void abort(int code) = 0;
};

/// Under mpirun or srun (with a build that has MPI) the job's ranks; else a single one. Call once, early in
/// main: MPI is finalised when the object goes.
std::unique_ptr<Comm> make_comm();

/// The single rank, whatever the environment says.
std::unique_ptr<Comm> make_single_comm();

}  // namespace pastur
