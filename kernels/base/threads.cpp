#include "kernels/base/threads.h"

#include <latch>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels/base/error.h"

namespace pastur {

void check_threads(int count) {
    std::vector<std::thread> threads;
    std::latch all(1);
    std::string failure;
    try {
        for (int i = 0; i < count; ++i) threads.emplace_back([&] { all.wait(); });
    } catch (const std::system_error& error) {
        failure = error.code().message();
    }
    all.count_down();
    const size_t started = threads.size();
    for (std::thread& thread : threads) thread.join();
    if (!failure.empty())
        fail(
            ExitCode::kNoDevice,
            "lower OMP_NUM_THREADS or raise `ulimit -u` and `ulimit -v`: only {} of {} more threads can be started: {}",
            started, count, failure);
}

}  // namespace pastur
