#pragma once
// The ranks of one job as threads of one process, for tests of code that has to keep collectives in step.
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "engine/ranks/comm.h"

namespace pastur::test {

/// Where the threads meet. A collective that not every rank enters throws on all ranks that wait in it.
class ThreadMeeting {
  public:
    explicit ThreadMeeting(int size) : calls_(static_cast<size_t>(size)), data_(calls_.size()) {}

    /// `call` names the collective and its size. `combine` runs once, given the data of every rank.
    void meet(int rank, const std::string& call, void* data,
              const std::function<void(const std::vector<void*>&)>& combine) {
        std::unique_lock<std::mutex> lock(mutex_);
        calls_[static_cast<size_t>(rank)] = call;
        data_[static_cast<size_t>(rank)] = data;
        const int64_t round = round_;
        if (++arrived_ + left_ == std::ssize(calls_)) {
            if (std::set<std::string>(calls_.begin(), calls_.end()).size() > 1)
                broken_ = fmt::format("mismatched collectives: {}", fmt::join(calls_, " | "));
            else
                combine(data_);
            arrived_ = 0;
            ++round_;
            changed_.notify_all();
        }
        changed_.wait(lock, [&] { return round_ != round || !broken_.empty(); });
        if (!broken_.empty()) throw std::logic_error(broken_);
    }
    /// The rank enters no further collective.
    void leave(int rank) {
        const std::lock_guard<std::mutex> lock(mutex_);
        calls_[static_cast<size_t>(rank)] = "left";
        ++left_;
        if (arrived_ > 0 && broken_.empty())
            broken_ = fmt::format("mismatched collectives: {}", fmt::join(calls_, " | "));
        changed_.notify_all();
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> calls_;  ///< of each rank, the last one
    std::vector<void*> data_;
    int64_t arrived_ = 0, left_ = 0, round_ = 0;
    std::string broken_;
};

/// One of the ranks. CPU tensors; only the collectives that return when they are done.
class ThreadComm final : public Comm {
  public:
    ThreadComm(World& world, ThreadMeeting& meeting) : Comm(world, Transport::kNone), meeting_(meeting) {}
    ~ThreadComm() override { meeting_.leave(rank()); }

    void all_reduce_sum(Context&, Tensor x) override {
        PASTUR_CHECK(x.dtype() == DType::kF64, "all_reduce_sum of {} on threads", name_of(x.dtype()));
        const auto count = static_cast<size_t>(x.numel());
        meeting_.meet(rank(), fmt::format("all_reduce_sum of {}", count), x.bytes(),
                      [count](const std::vector<void*>& ranks) {
                          for (size_t i = 0; i < count; ++i) {
                              double sum = 0;
                              for (void* data : ranks) sum += static_cast<double*>(data)[i];
                              for (void* data : ranks) static_cast<double*>(data)[i] = sum;
                          }
                      });
    }
    int all_reduce_max(int value) override {
        meeting_.meet(rank(), "all_reduce_max", &value, [](const std::vector<void*>& ranks) {
            int most = *static_cast<int*>(ranks.front());
            for (void* data : ranks) most = std::max(most, *static_cast<int*>(data));
            for (void* data : ranks) *static_cast<int*>(data) = most;
        });
        return value;
    }
    void barrier() override { all_reduce_max(0); }

    void begin_reduce_scatter(Context&, Tensor, DType) override { refuse(); }
    void begin_all_gather(Context&, Tensor) override { refuse(); }
    void begin_all_reduce(Context&, Tensor, DType) override { refuse(); }
    void begin_ordered_sum(Context&, Tensor, ConstTensor, Update, DType) override { refuse(); }
    void progress(Context&) override { refuse(); }
    void finish(Context&) override { refuse(); }

  private:
    [[noreturn]] static void refuse() { throw std::logic_error("not between threads"); }
    ThreadMeeting& meeting_;
};

/// Runs `life` once per rank, each on a thread of its own; returns the exception text of each, "" for none.
inline std::vector<std::string> run_ranks(int size, const std::function<void(Comm&)>& life) {
    ThreadMeeting meeting(size);
    std::vector<std::string> failures(static_cast<size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank)
        threads.emplace_back([&, rank] {
            World world({.kind = Launch::Kind::kPlain, .rank = rank, .size = size, .local_rank = rank});
            ThreadComm comm(world, meeting);
            try {
                life(comm);
            } catch (const std::exception& error) {
                failures[static_cast<size_t>(rank)] = error.what();
            }
        });
    for (std::thread& thread : threads) thread.join();
    return failures;
}

}  // namespace pastur::test
