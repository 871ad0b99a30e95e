// Times cuBLASLt's algorithms for one GEMM and chooses among them.
#include <algorithm>
#include <cmath>

#include "kernels/base/interval_clock.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear/matmul_plan.h"

namespace pastur {
namespace {

constexpr int kRounds = 4;
constexpr double kWorthwhile =
    0.94;  ///< of the first candidate's time; smaller gains are within the error of timing

/// sum += a hash of (index, word) over all words. Integer sums do not depend on the order of addition.
__global__ void hash_kernel(unsigned long long* sum, const uint32_t* words, int64_t count) {
    unsigned long long mine = 0;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        unsigned long long x = static_cast<unsigned long long>(i) << 32 ^ words[i];
        x = (x ^ x >> 31) * 0x9e3779b97f4a7c15ull;  // multipliers of splitmix64 (Steele et al., 2014)
        x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
        mine += x ^ x >> 32;
    }
    atomicAdd(sum, mine);
}

/// Runs the candidates of one search, with memory and a clock of its own.
class Trial {
  public:
    Trial(CudaContext& ctx, const MatmulCall& call)
        : ctx_(ctx), call_(call), clock_(make_interval_clock(ctx)) {
        // A GEMM that adds to its output in place may run only once: the trials write elsewhere.
        if (call.add_c && call.c == call.d) {
            if (cudaMalloc(&memory_, static_cast<size_t>(call.d_bytes)) != cudaSuccess) {
                static_cast<void>(cudaGetLastError());
                return;
            }
            call_.d = static_cast<std::byte*>(memory_);
        }
        CUDA_CHECK(cudaMalloc(&sum_, sizeof *sum_));
    }
    ~Trial() {
        if (sum_) CUDA_CHECK_LOG(cudaFree(sum_));
        if (memory_) CUDA_CHECK_LOG(cudaFree(memory_));
    }
    Trial(const Trial&) = delete;
    Trial& operator=(const Trial&) = delete;

    bool possible() const { return sum_ != nullptr; }

    /// Seconds of one run; negative if the device refuses the algorithm.
    double run(MatmulPlan& plan, const MatmulAlgorithm& algorithm) {
        clock_->clear();
        const size_t interval = clock_->begin();
        if (run_matmul(ctx_.handles(), plan, algorithm, call_) != CUBLAS_STATUS_SUCCESS) return -1;
        clock_->end(interval);
        return clock_->seconds(interval);
    }

    /// Hash of the result of the last run.
    unsigned long long hash() {
        cudaStream_t stream = ctx_.handles().stream;
        unsigned long long sum = 0;
        CUDA_CHECK(cudaMemsetAsync(sum_, 0, sizeof sum, stream));
        launch(ctx_, 1024, 256, 0, hash_kernel, sum_, reinterpret_cast<const uint32_t*>(call_.d),
               call_.d_bytes / 4);
        CUDA_CHECK(cudaMemcpyAsync(&sum, sum_, sizeof sum, cudaMemcpyDeviceToHost, stream));
        CUDA_CHECK(cudaStreamSynchronize(stream));
        return sum;
    }

  private:
    CudaContext& ctx_;
    MatmulCall call_;
    void* memory_ = nullptr;
    unsigned long long* sum_ = nullptr;
    std::unique_ptr<IntervalClock> clock_;
};

}  // namespace

MatmulAlgorithm fastest_algorithm(CudaContext& ctx, MatmulPlan& plan,
                                  const std::vector<MatmulAlgorithm>& candidates, const MatmulCall& call) {
    if (candidates.size() == 1) return candidates.front();
    Trial trial(ctx, call);
    if (!trial.possible()) return candidates.front();
    if (trial.run(plan, candidates.front()) < 0) return candidates.front();
    const unsigned long long wanted = trial.hash();
    std::vector<size_t> equal = {0};
    for (size_t i = 1; i < candidates.size(); ++i) {
        if (trial.run(plan, candidates[i]) < 0) continue;
        if (trial.hash() == wanted) equal.push_back(i);
    }
    std::vector<double> best(equal.size(), INFINITY);
    for (int round = 0; round < kRounds; ++round)
        for (size_t i = 0; i < equal.size(); ++i)
            best[i] = std::min(best[i], trial.run(plan, candidates[equal[i]]));
    const auto fastest = static_cast<size_t>(std::min_element(best.begin(), best.end()) - best.begin());
    return candidates[best[fastest] < best[0] * kWorthwhile ? equal[fastest] : 0];
}

}  // namespace pastur
