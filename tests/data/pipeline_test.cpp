// The ordered pipeline under `data prepare`.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "data/parallel.h"
#include "kernels/base/random.h"

namespace pastur {
namespace {

using Pipeline = OrderedPipeline<int, int>;

/// Produces 1, 2, ... n, each with this cost.
Pipeline::Produce numbers(int n, int64_t cost = 1) {
    return [=, next = 0](int& item) mutable -> int64_t {
        if (next == n) return 0;
        item = ++next;
        return cost;
    };
}

/// Squares the items, later ones often before earlier ones.
Pipeline::MakeWork uneven_squares() {
    return [] {
        return [](int& item) {
            if (mix64(static_cast<uint64_t>(item)) % 4 == 0)
                std::this_thread::sleep_for(std::chrono::microseconds(200));
            return item * item;
        };
    };
}

TEST(OrderedPipeline, KeepsTheOrder) {
    for (const int threads : {1, 2, 7}) {
        std::vector<int> results;
        Pipeline::run(threads, 20, numbers(500), uneven_squares(), [&](int& r) { results.push_back(r); });
        ASSERT_EQ(results.size(), 500u);
        for (int i = 0; i < 500; ++i) EXPECT_EQ(results[i], (i + 1) * (i + 1));
    }
}

TEST(OrderedPipeline, EndsWithoutItems) {
    int results = 0;
    Pipeline::run(3, 10, numbers(0), uneven_squares(), [&](int&) { ++results; });
    EXPECT_EQ(results, 0);
}

TEST(OrderedPipeline, BoundsWhatIsInFlight) {
    std::atomic<int> produced = 0, most = 0;
    int consumed = 0;
    const auto produce = [&](int& item) -> int64_t {
        if (produced == 200) return 0;
        item = ++produced;
        return 10;
    };
    Pipeline::run(4, 35, produce, uneven_squares(), [&](int&) {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        // The producer waits only after it has produced one more.
        most = std::max<int>(most, produced - consumed++);
    });
    EXPECT_EQ(consumed, 200);
    EXPECT_LE(most, 3 + 1);
}

TEST(OrderedPipeline, LetsASingleItemExceedTheBudget) {
    int results = 0;
    Pipeline::run(2, 5, numbers(10, 1000), uneven_squares(), [&](int&) { ++results; });
    EXPECT_EQ(results, 10);
}

// Item 20 fails at once and item 10 late: the first in order is reported, whatever the timing.
TEST(OrderedPipeline, RethrowsTheFirstFailureInOrder) {
    for (const int threads : {1, 4}) {
        std::vector<int> results;
        const auto work = [] {
            return [](int& item) {
                if (item == 10) std::this_thread::sleep_for(std::chrono::milliseconds(5));
                if (item % 10 == 0) throw std::runtime_error(std::to_string(item));
                return item;
            };
        };
        try {
            Pipeline::run(threads, 1000, numbers(100), work, [&](int& r) { results.push_back(r); });
            ADD_FAILURE() << "nothing was thrown";
        } catch (const std::runtime_error& error) {
            EXPECT_STREQ(error.what(), "10");
        }
        EXPECT_EQ(results.size(), 9u);
    }
}

TEST(OrderedPipeline, RethrowsFailuresOfTheEnds) {
    int results = 0;
    const auto produce = [next = 0](int& item) mutable -> int64_t {
        if (++next == 6) throw std::runtime_error("produce");
        item = next;
        return 1;
    };
    EXPECT_THROW(Pipeline::run(2, 10, produce, uneven_squares(), [&](int&) { ++results; }),
                 std::runtime_error);
    EXPECT_EQ(results, 5);
    const auto consume = [](int& r) {
        if (r == 9) throw std::logic_error("consume");
    };
    EXPECT_THROW(Pipeline::run(2, 10, numbers(100), uneven_squares(), consume), std::logic_error);
}

TEST(ParallelFor, VisitsEachIndexOnce) {
    for (const int threads : {1, 3}) {
        std::vector<std::atomic<int>> visits(100);
        parallel_for(100, threads, [&](int64_t i) { ++visits[i]; });
        for (const auto& count : visits) EXPECT_EQ(count, 1);
    }
    EXPECT_THROW(parallel_for(10, 2,
                              [](int64_t i) {
                                  if (i == 5) throw std::runtime_error("5");
                              }),
                 std::runtime_error);
}

}  // namespace
}  // namespace pastur
