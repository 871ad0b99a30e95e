// Sums between ranks in fp32 and in bf16: three processes of one job over TCP, judged by the numbers that they sum.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "engine/ranks/comm.h"
#include "engine/ranks/sockets.h"
#include "tests/support/harness.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

constexpr int kRanks = 3;
constexpr int64_t kPart = 700, kCount = kRanks * kPart;

/// Gradients of many magnitudes, with zeros.
std::vector<float> gradient_of(int rank) {
    Random random(100 + static_cast<uint64_t>(rank));
    const std::vector<double> normal = random.normal(kCount, DType::kF32);
    std::vector<float> values;
    for (const double value : normal)
        values.push_back(static_cast<float>(std::ldexp(value, 4 - static_cast<int>(random.below(24)))));
    for (size_t i = 0; i < values.size(); i += 37) values[i] = 0;
    return values;
}

float rounded(float value) {
    return to_float(to_bf16(value));
}

class Exchange : public testing::Test {
  protected:
    /// Runs `life` in a process per rank, and returns what each of them leaves in its result.
    static std::vector<std::vector<float>> run(
        int ranks, const std::function<void(Context&, Comm&, std::vector<float>&)>& life) {
        const TempFolder folder;
        const auto file = [&](int rank) { return folder.path() / std::to_string(rank); };
        const int port = Listener("127.0.0.1", 0).port();
        std::vector<pid_t> processes;
        for (int rank = 0; rank < ranks; ++rank) {
            processes.push_back(fork());
            if (processes.back() != 0) continue;
            for (const auto& [name, value] : {std::pair("RANK", rank),
                                              {"LOCAL_RANK", rank},
                                              {"WORLD_SIZE", ranks},
                                              {"MASTER_PORT", port}})
                setenv(name, std::to_string(value).c_str(), 1);
            setenv("MASTER_ADDR", "127.0.0.1", 1);
            setenv("PASTUR_SECRET", "0123456789abcdef", 1);
            std::vector<float> result;
            {
                World world = World::from_environment();
                Context ctx = CpuContext(1);
                const std::unique_ptr<Comm> comm = make_comm(world, ctx, "tcp");
                life(ctx, *comm, result);
            }
            std::ofstream(file(rank))
                .write(reinterpret_cast<const char*>(result.data()),
                       static_cast<std::streamsize>(result.size() * sizeof(float)));
            _exit(0);
        }
        std::vector<std::vector<float>> results;
        for (int rank = 0; rank < ranks; ++rank) {
            int status = 0;
            waitpid(processes[static_cast<size_t>(rank)], &status, 0);
            EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "rank " << rank;
            std::ifstream in(file(rank), std::ios::ate);
            results.emplace_back(static_cast<size_t>(in.tellg()) / sizeof(float));
            in.seekg(0).read(reinterpret_cast<char*>(results.back().data()),
                             static_cast<std::streamsize>(results.back().size() * sizeof(float)));
        }
        return results;
    }
    static std::vector<std::vector<float>> all_reduce(DType wire) {
        return run(kRanks, [wire](Context& ctx, Comm& comm, std::vector<float>& result) {
            result = gradient_of(comm.rank());
            comm.begin_all_reduce(ctx, as_tensor(std::span(result)), wire);
            comm.finish(ctx);
        });
    }
};

TEST_F(Exchange, InBf16AddsRoundedNumbersInFp32AndRoundsTheSum) {
    const std::vector<std::vector<float>> whole = all_reduce(DType::kF32), narrow = all_reduce(DType::kBF16);
    std::vector<std::vector<float>> gradients;
    for (int rank = 0; rank < kRanks; ++rank) gradients.push_back(gradient_of(rank));
    constexpr double kUnit = 0x1p-8;  // largest relative error of a number rounded to bf16
    size_t off = 0;
    for (size_t i = 0; i < kCount; ++i) {
        float sum = gradients[0][i], of_rounded = rounded(gradients[0][i]);
        double magnitudes = std::abs(gradients[0][i]);
        for (int rank = 1; rank < kRanks; ++rank) {
            sum += gradients[static_cast<size_t>(rank)][i];
            of_rounded += rounded(gradients[static_cast<size_t>(rank)][i]);
            magnitudes += std::abs(gradients[static_cast<size_t>(rank)][i]);
        }
        for (int rank = 0; rank < kRanks; ++rank) {
            EXPECT_EQ(whole[static_cast<size_t>(rank)][i], sum) << i;
            EXPECT_EQ(narrow[static_cast<size_t>(rank)][i], rounded(of_rounded)) << i;
        }
        // The bound of gradient_sync.h, and the terms of second order.
        EXPECT_LE(std::abs(narrow[0][i] - sum), kUnit * (1.01 * magnitudes + std::abs(sum))) << i;
        off += narrow[0][i] != sum;
    }
    EXPECT_GT(off, kCount / 2) << "nothing was rounded";
}

TEST_F(Exchange, GivesARanksPartTheBitsOfTheWholeSum) {
    for (const DType wire : {DType::kF32, DType::kBF16}) {
        const auto whole = all_reduce(wire);
        const auto parts = run(kRanks, [wire](Context& ctx, Comm& comm, std::vector<float>& result) {
            std::vector<float> x = gradient_of(comm.rank());
            comm.begin_reduce_scatter(ctx, as_tensor(std::span(x)), wire);
            comm.finish(ctx);
            const auto begin = x.begin() + comm.rank() * kPart;
            result.assign(begin, begin + kPart);
        });
        for (size_t rank = 0; rank < kRanks; ++rank)
            for (size_t i = 0; i < kPart; ++i)
                EXPECT_EQ(parts[rank][i], whole[rank][rank * kPart + i]) << name_of(wire) << " " << i;
    }
}

/// Two micro-batches: every gradient is rounded, their sum is not, and one rank gives what three do.
TEST_F(Exchange, RoundsEveryGradientButNotAnOrderedSum) {
    const auto sums = run(kRanks, [](Context& ctx, Comm& comm, std::vector<float>& result) {
        result.resize(kPart);
        const std::vector<float> first = gradient_of(comm.rank()), second = gradient_of(kRanks + comm.rank());
        const Tensor total = as_tensor(std::span(result));
        const auto add = [&](const std::vector<float>& x, Update update) {
            std::vector<float> copy = x;
            comm.begin_ordered_sum(ctx, total, as_tensor(std::span(copy)), update, DType::kBF16);
            comm.finish(ctx);
        };
        add(first, Update::kAssign);
        add(second, Update::kAccumulate);
    });
    Context ctx = CpuContext(1);
    const std::unique_ptr<Comm> alone = make_single_comm();
    std::vector<float> one(kCount);
    std::vector<std::vector<float>> gradients;
    size_t unrounded = 0;
    for (int micro = 0; micro < 2 * kRanks; ++micro) {
        std::vector<float> x = gradient_of(micro);
        gradients.push_back(x);
        alone->begin_ordered_sum(ctx, as_tensor(std::span(one)), as_tensor(std::span(x)),
                                 micro == 0 ? Update::kAssign : Update::kAccumulate, DType::kBF16);
    }
    for (size_t i = 0; i < kCount; ++i) {
        float want = 0;
        for (const std::vector<float>& gradient : gradients) want += rounded(gradient[i]);
        EXPECT_EQ(one[i], want) << i;
        EXPECT_EQ(sums[i / kPart][i % kPart], want) << i;
        unrounded += want != rounded(want);
    }
    EXPECT_GT(unrounded, 0u);
}

}  // namespace
}  // namespace pastur::test
