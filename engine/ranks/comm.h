#pragma once
// Collectives between the ranks of one data-parallel job.
#include <memory>
#include <string>

#include "engine/ranks/world.h"
#include "kernels/base/context.h"

namespace pastur {

/// What moves tensors between ranks.
enum class Transport : uint8_t {
    kNone,  ///< a single rank
    kMpi,   ///< through host memory
    kTcp,   ///< between CPU ranks, through rank 0
    kNccl,  ///< between GPUs
};

/// What make_comm() uses. `choice`: mpi, nccl, tcp, or auto: NCCL between GPUs; between CPUs MPI if it
/// started the ranks, else TCP. Throws (kUsage) with the reason if the choice is not possible.
Transport choose_transport(const World& world, const Context& ctx, const std::string& choice);
/// The transport of so many ranks under "auto".
inline Transport usual_transport(int ranks, bool on_gpu) {
    return ranks == 1 ? Transport::kNone : on_gpu ? Transport::kNccl : Transport::kMpi;
}

/// Exchanges over MPI that may be in progress at a time, each with a buffer of its tensor's size.
inline constexpr int64_t kMpiExchanges = 4;

/// Memory of a rank's device (the host's for a CPU rank) that the begin_ functions take for buckets of up to
/// `bucket_bytes`, counted in f32. ordered: begin_ordered_sum is among them. wire: as in those functions.
int64_t exchange_bytes(Transport transport, bool on_gpu, int64_t bucket_bytes, bool ordered, DType wire);

/// An operation that is begun runs concurrently with work queued on ctx after it. Its tensors must not be
/// touched until finish(). Every rank begins the same operations in the same order.
class Comm {
  public:
    virtual ~Comm() = default;
    Comm(const Comm&) = delete;
    Comm& operator=(const Comm&) = delete;
    int rank() const { return world_.rank(); }
    int size() const { return world_.size(); }
    bool is_root() const { return rank() == 0; }
    Transport transport() const { return transport_; }

    /// x = sum over ranks of x, the same bits on every rank. x f32 or f64, contiguous, on ctx's device.
    virtual void all_reduce_sum(Context& ctx, Tensor x) = 0;
    /// Largest value over ranks.
    virtual int all_reduce_max(int value) = 0;
    /// The largest number of ranks on any one host. Every rank calls it.
    int ranks_of_host() { return all_reduce_max(world_.local_rank()) + 1; }
    /// Returns once every rank has called it.
    virtual void barrier() = 0;

    // wire: the dtype in which the numbers of a sum travel, f32 or bf16. In bf16 every rank rounds its x to
    // nearest before it sends, the sum is taken in fp32 in the order of the ranks, and it is rounded once more
    // unless it is an ordered sum. All transports then give the same bits. Under f32 NCCL chooses the order.

    /// x f32 [size n]: its rank-th part of n elements = the sum over ranks. The other parts are then
    /// undefined.
    virtual void begin_reduce_scatter(Context& ctx, Tensor x, DType wire) = 0;
    /// x f32 [size n]: every part = that part on the rank of its number.
    virtual void begin_all_gather(Context& ctx, Tensor x) = 0;
    /// x f32 [size n] = the sum over ranks: a reduce-scatter followed by an all-gather, with the bits of
    /// begin_reduce_scatter.
    virtual void begin_all_reduce(Context& ctx, Tensor x, DType wire) = 0;
    /// total f32 [n] = or += the rank-th part of rank 0's x f32 [size n], then that of rank 1's, and so on:
    /// the order of the sum is fixed here, not chosen by a library. A single rank rounds as well.
    virtual void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update, DType wire) = 0;
    /// Advances the operations in progress. Cheap; to be called now and then during other work.
    virtual void progress(Context& ctx) = 0;
    /// Everything begun is complete for work queued on ctx from here on.
    virtual void finish(Context& ctx) = 0;

    /// The step to report if this rank is lost.
    void at_step(int64_t step) { where_.at_step(step); }

  protected:
    Comm(World& world, Transport transport)
        : world_(world), where_(world.whereabouts()), transport_(transport) {}
    World& world_;
    Whereabouts& where_;

  private:
    Transport transport_;
};

/// By choose_transport(). Over MPI, which goes through host memory, ranks may share a GPU. Throws (kUsage,
/// kNoDevice) with the reason if the choice is not possible. `world` outlives the result.
std::unique_ptr<Comm> make_comm(World& world, Context& ctx, const std::string& choice);

/// A single rank, whatever the environment says.
std::unique_ptr<Comm> make_single_comm();

/// Over MPI; null in a build without it.
std::unique_ptr<Comm> make_mpi_comm(World& world);
/// Over TCP, on CPUs. Works in every build.
std::unique_ptr<Comm> make_tcp_comm(World& world);
/// Over NCCL, on ctx's CUDA device, which no other rank may use; null in a build without NCCL.
std::unique_ptr<Comm> make_nccl_comm(World& world, Context& ctx);

}  // namespace pastur
