#pragma once
// Threads: a loop of independent iterations, and a pipeline that keeps the order.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace pastur {

/// The machine's hardware threads, at least 1.
inline int hardware_threads() {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// Calls body(i) for i in [0, n), in order, on at most `threads` threads. One of the exceptions is rethrown.
inline void parallel_for(int64_t n, int threads, const std::function<void(int64_t)>& body) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t i; (i = next.fetch_add(1)) < n;) body(i);
    };
    std::vector<std::future<void>> helpers;
    for (int64_t t = 1; t < std::min<int64_t>(threads, n); ++t)
        helpers.push_back(std::async(std::launch::async, work));
    work();
    for (std::future<void>& helper : helpers) helper.get();
}

/// produce -> work -> consume: one thread produces, `threads` threads work, and the calling thread consumes,
/// in the order of production. Items in flight cost at most `budget` together (a single one may cost more),
/// so memory does not grow with the stream. An exception of a stage is rethrown when the item's turn comes,
/// so the outcome does not depend on the number of threads.
template <typename Item, typename Result>
class OrderedPipeline {
  public:
    using Produce = std::function<int64_t(Item&)>;  ///< fills the item and returns its cost; 0 at the end
    using Work = std::function<Result(Item&)>;
    using MakeWork = std::function<Work()>;  ///< called once on each working thread, which may keep caches
    using Consume = std::function<void(Result&)>;

    static void run(int threads, int64_t budget, const Produce& produce, const MakeWork& make_work,
                    const Consume& consume) {
        OrderedPipeline pipeline(budget);
        const Join join{pipeline};
        pipeline.threads_.emplace_back([&] { pipeline.produce_all(produce); });
        for (int t = 0; t < threads; ++t)
            pipeline.threads_.emplace_back([&] { pipeline.work_all(make_work); });
        while (const std::shared_ptr<Slot> slot = pipeline.next_done()) {
            if (slot->error) std::rethrow_exception(slot->error);
            consume(slot->result);
            pipeline.release(slot->cost);
        }
    }

  private:
    struct Slot {
        Item item{};
        Result result{};
        int64_t cost = 0;
        bool done = false;
        std::exception_ptr error;
    };
    struct Join {
        OrderedPipeline& pipeline;
        ~Join() {
            {
                const std::lock_guard lock(pipeline.mutex_);
                pipeline.stopped_ = true;
            }
            pipeline.changed_.notify_all();
            for (std::thread& thread : pipeline.threads_) thread.join();
        }
    };

    explicit OrderedPipeline(int64_t budget) : budget_(budget) {}

    void produce_all(const Produce& produce) {
        for (bool more = true; more;) {
            auto slot = std::make_shared<Slot>();
            try {
                slot->cost = produce(slot->item);
            } catch (...) {
                slot->error = std::current_exception();
                slot->done = true;
            }
            more = slot->cost > 0 && !slot->error;
            std::unique_lock lock(mutex_);
            changed_.wait(lock,
                          [&] { return stopped_ || in_flight_ == 0 || in_flight_ + slot->cost <= budget_; });
            if (stopped_) return;
            if (more || slot->error) order_.push_back(slot);
            if (more) todo_.push_back(slot);
            in_flight_ += slot->cost;
            ended_ = !more;
            changed_.notify_all();
        }
    }

    void work_all(const MakeWork& make_work) {
        Work work;
        std::unique_lock lock(mutex_);
        while (true) {
            changed_.wait(lock, [&] { return stopped_ || ended_ || !todo_.empty(); });
            if (stopped_ || todo_.empty()) return;
            const std::shared_ptr<Slot> slot = todo_.front();
            todo_.pop_front();
            lock.unlock();
            try {
                if (!work) work = make_work();
                slot->result = work(slot->item);
                slot->item = Item{};
            } catch (...) {
                slot->error = std::current_exception();
            }
            lock.lock();
            slot->done = true;
            changed_.notify_all();
        }
    }

    /// Waits for the next result in order; null at the end.
    std::shared_ptr<Slot> next_done() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return order_.empty() ? ended_ : order_.front()->done; });
        if (order_.empty()) return nullptr;
        const std::shared_ptr<Slot> slot = order_.front();
        order_.pop_front();
        return slot;
    }

    void release(int64_t cost) {
        const std::lock_guard lock(mutex_);
        in_flight_ -= cost;
        changed_.notify_all();
    }

    const int64_t budget_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::shared_ptr<Slot>> order_, todo_;
    int64_t in_flight_ = 0;
    bool ended_ = false;    ///< the last item was produced
    bool stopped_ = false;  ///< threads return without finishing
    std::vector<std::thread> threads_;
};

}  // namespace pastur
