#pragma once
// Ranks of one data-parallel job.
#include <memory>

#include "kernels/context.h"

namespace pastur {

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
    /// Ends every rank of the job with this exit code; does not return where there are others.
    virtual void abort(int code) = 0;
};

/// Under mpirun or srun (with a build that has MPI) the job's ranks; else a single one. Call once, early in
/// main: MPI is finalised when the object goes.
std::unique_ptr<Comm> make_comm();

/// The single rank, whatever the environment says.
std::unique_ptr<Comm> make_single_comm();

}  // namespace pastur
