#pragma once
// Ranks of one data-parallel job.
#include <memory>
#include <string>

#include "engine/ranks/watchdog.h"
#include "engine/ranks/whereabouts.h"
#include "engine/ranks/world.h"
#include "kernels/base/context.h"

namespace pastur {

/// What is begun runs beside the computation queued on ctx after it; the tensors it uses are not to be
/// touched until finish(). Every rank begins the same things in the same order.
class Comm {
  public:
    virtual ~Comm() = default;
    Comm(const Comm&) = delete;
    Comm& operator=(const Comm&) = delete;
    int rank() const { return world_.rank(); }
    int size() const { return world_.size(); }
    bool is_root() const { return rank() == 0; }

    /// x = sum over ranks of x, the same bits on every rank. x f32 or f64, contiguous, on ctx's device.
    virtual void all_reduce_sum(Context& ctx, Tensor x) = 0;
    /// Largest value over ranks.
    virtual int all_reduce_max(int value) = 0;
    /// The most ranks that any host has. Every rank calls it.
    int ranks_of_host() { return all_reduce_max(world_.local_rank()) + 1; }
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

    /// From here on a rank that is lost ends the job (watchdog.h). Every rank calls it.
    void watch(double timeout_s) {
        if (size() > 1)
            watchdog_ = std::make_unique<Watchdog>(std::move(world_.sideband()), where_, timeout_s);
    }
    /// Where this rank says it is, should it be lost.
    void at_step(int64_t step) { where_.at_step(step); }
    /// Ends every rank of the job with this exit code.
    [[noreturn]] void abort(int code) {
        if (watchdog_) watchdog_->end_all(code);
        world_.abort(code);
    }

  protected:
    explicit Comm(World& world) : world_(world) {}
    World& world_;
    Whereabouts where_;

  private:
    std::unique_ptr<Watchdog> watchdog_;
};

/// `choice`: mpi, nccl, or auto: NCCL between GPUs, MPI between CPUs. Over MPI, ranks may share a GPU, by way
/// of host memory. Throws (kUsage, kNoDevice) with the reason where that cannot be. `world` outlives it.
std::unique_ptr<Comm> make_comm(World& world, Context& ctx, const std::string& choice);

/// The single rank, whatever the environment says.
std::unique_ptr<Comm> make_single_comm();

/// Over MPI; null in a build without.
std::unique_ptr<Comm> make_mpi_comm(World& world);
/// Over NCCL, on ctx's CUDA device, which no other rank may use; null in a build without.
std::unique_ptr<Comm> make_nccl_comm(World& world, Context& ctx);

}  // namespace pastur
