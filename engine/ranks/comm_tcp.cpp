// Data parallelism between CPU ranks over the job's own TCP connections, without MPI. Rank 0 is the hub.
#include <algorithm>
#include <vector>

#include "engine/ranks/comm.h"
#include "engine/ranks/sockets.h"
#include "kernels/fill.h"
#include "kernels/reduce.h"

namespace pastur {
namespace {

/// Operations are complete when they return. Sums are those of MpiJobs, to the bit: each rank adds the parts
/// of all ranks in the order of the ranks.
class TcpComm final : public Comm {
  public:
    explicit TcpComm(World& world) : Comm(world, Transport::kTcp), sockets_(world.data_sockets()) {}

    void all_reduce_sum(Context&, Tensor x) override {
        const Whereabouts::Collective here(where_, "all-reduce");
        if (x.dtype() == DType::kF64)
            reduce<double>(x, [](double& total, double value) { total += value; });
        else
            reduce<float>(x, [](float& total, float value) { total += value; });
    }
    int all_reduce_max(int value) override {
        const Whereabouts::Collective here(where_, "agreement on the next step");
        reduce<int>(Tensor(reinterpret_cast<std::byte*>(&value), DType::kI32, {1}),
                    [](int& most, int other) { most = std::max(most, other); });
        return value;
    }
    void barrier() override { all_reduce_max(0); }

    void begin_reduce_scatter(Context& ctx, Tensor x, DType wire) override {
        const Whereabouts::Collective here(where_, "reduce-scatter");
        sum(ctx, own_part(x), x, Update::kAssign, wire);
        if (wire == DType::kBF16) round(ctx, x);
    }
    void begin_all_gather(Context&, Tensor x) override {
        const Whereabouts::Collective here(where_, "all-gather");
        gather(x);
    }
    void begin_all_reduce(Context& ctx, Tensor x, DType wire) override {
        const Whereabouts::Collective here(where_, "all-reduce of gradients");
        sum(ctx, own_part(x), x, Update::kAssign, wire);
        if (wire == DType::kF32) return gather(x);
        const Tensor rounded = round(ctx, x);
        gather(rounded);
        cast(ctx, x, rounded);
    }
    void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update, DType wire) override {
        const Whereabouts::Collective here(where_, "ordered sum");
        sum(ctx, total, x, update, wire);
    }
    void progress(Context&) override {}
    void finish(Context&) override {}

  private:
    // The watchdog ends a wait for a rank that is lost.
    void send(int rank, const void* data, int64_t bytes) {
        if (!send_all(socket(rank), data, static_cast<size_t>(bytes), Clock::time_point::max())) lost(rank);
    }
    void receive(int rank, void* data, int64_t bytes) {
        if (!receive_all(socket(rank), data, static_cast<size_t>(bytes), Clock::time_point::max()))
            lost(rank);
    }
    int socket(int rank) const { return sockets_[static_cast<size_t>(rank)].get(); }
    [[noreturn]] void lost(int rank) const {
        fail(ExitCode::kRankLost, "the connection to rank {} ({}) is lost, in step {}, collective {} ({})",
             rank, world_.places()[static_cast<size_t>(rank)], where_.step(), where_.collectives(),
             where_.last());
    }

    /// x = the combination of every rank's x, in the order of the ranks.
    template <typename T, typename Combine>
    void reduce(Tensor x, Combine combine) {
        T* const values = x.data<T>();
        if (!is_root()) {
            send(0, values, x.nbytes());
            receive(0, values, x.nbytes());
            return;
        }
        std::vector<T> other(static_cast<size_t>(x.numel()));
        for (int rank = 1; rank < size(); ++rank) {
            receive(rank, other.data(), x.nbytes());
            for (size_t i = 0; i < other.size(); ++i) combine(values[i], other[i]);
        }
        for (int rank = 1; rank < size(); ++rank) send(rank, values, x.nbytes());
    }

    /// total = or += the sum of the rank-th parts of every rank's x, which travel as `wire`.
    void sum(Context& ctx, Tensor total, ConstTensor x, Update update, DType wire) {
        if (wire == DType::kBF16) {
            const Tensor rounded = narrow(x);
            cast(ctx, rounded, x);
            x = rounded;
        }
        exchange(x);
        sum_rows(ctx, total, Tensor(received_.data(), wire, {size(), x.numel() / size()}), update);
    }
    /// Rounds this rank's part of x to bf16. Returns a buffer like x that holds the rounded part.
    Tensor round(Context& ctx, Tensor x) {
        const Tensor rounded = narrow(x);
        cast(ctx, own_part(rounded), own_part(x));
        cast(ctx, own_part(x), own_part(rounded));
        return rounded;
    }
    Tensor narrow(ConstTensor x) {
        narrow_.resize(static_cast<size_t>(x.numel() * size_of(DType::kBF16)));
        return Tensor(narrow_.data(), DType::kBF16, {x.numel()});
    }

    /// received_ = the rank-th parts of every rank's x, by rank. Rank 0 forwards one rank's parts at a time.
    void exchange(ConstTensor x) {
        const int64_t bytes = x.nbytes() / size();
        received_.resize(static_cast<size_t>(x.nbytes()));
        if (is_root()) forwarded_.resize(received_.size());
        std::byte* const own = received_.data();
        for (int part = 0; part < size(); ++part) {
            const std::byte* const mine = x.bytes() + part * bytes;
            if (!is_root()) {
                send(0, mine, bytes);
                if (part == rank()) receive(0, own, x.nbytes());
                continue;
            }
            std::byte* const all = part == 0 ? own : forwarded_.data();
            std::copy_n(mine, bytes, all);
            for (int from = 1; from < size(); ++from) receive(from, all + from * bytes, bytes);
            if (part > 0) send(part, all, x.nbytes());
        }
    }
    /// x: every part = that part on the rank of its number.
    void gather(Tensor x) {
        const int64_t bytes = x.nbytes() / size();
        if (!is_root()) {
            send(0, own_part(x).bytes(), bytes);
            receive(0, x.bytes(), x.nbytes());
            return;
        }
        for (int rank = 1; rank < size(); ++rank) receive(rank, x.bytes() + rank * bytes, bytes);
        for (int rank = 1; rank < size(); ++rank) send(rank, x.bytes(), x.nbytes());
    }

    Tensor own_part(const Tensor& x) const {
        const int64_t n = x.numel() / size();
        return x.slice(0, rank() * n, n);
    }

    const std::vector<FileDescriptor>& sockets_;
    std::vector<std::byte> received_, forwarded_, narrow_;
};

}  // namespace

std::unique_ptr<Comm> make_tcp_comm(World& world) {
    return std::make_unique<TcpComm>(world);
}

}  // namespace pastur
