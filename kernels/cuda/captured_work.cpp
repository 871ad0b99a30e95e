#include "kernels/base/captured_work.h"

#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {
namespace {

class CudaCapturedWork final : public CapturedWork {
  public:
    explicit CudaCapturedWork(CudaContext& ctx) : ctx_(ctx) {}
    ~CudaCapturedWork() override {
        // A replay may be under way when an exception unwinds; whoever waits for the stream next says what
        // became of it.
        static_cast<void>(cudaStreamSynchronize(ctx_.handles().stream));
        forget();
    }

    void run(size_t kind, const std::function<void()>& queue) override {
        if (failed_ || ctx_.op_timer) return queue();
        follow_scratch();
        if (kinds_.size() <= kind) kinds_.resize(kind + 1);
        Kind& mine = kinds_[kind];
        if (!mine.warm) {
            queue();
            mine.warm = true;
            return;
        }
        CUDA_CHECK(cudaSetDevice(ctx_.handles().device));
        if (!mine.graph && !capture(mine, queue)) return queue();
        CUDA_CHECK(cudaGraphLaunch(mine.graph, ctx_.handles().stream));
        ++replays_;
    }
    int64_t replays() const override { return replays_; }

  private:
    struct Kind {
        bool warm = false;
        cudaGraphExec_t graph = nullptr;
    };

    /// A graph holds the addresses that ops took from the scratch arena when it was captured; another arena
    /// has others.
    void follow_scratch() {
        Arena::Frame frame(ctx_.scratch(), "captured work");
        const std::byte* scratch = nullptr;
        if (ctx_.scratch().capacity() >= kAlignment) scratch = frame.take(DType::kF32, {1}).bytes();
        if (scratch == scratch_) return;
        forget();
        scratch_ = scratch;
    }
    void forget() noexcept {
        for (Kind& kind : kinds_)
            if (kind.graph) CUDA_CHECK_LOG(cudaGraphExecDestroy(kind.graph));
        kinds_.clear();
    }

    /// False, for good, where it cannot be: the device's state is then as if nothing had been tried.
    bool capture(Kind& kind, const std::function<void()>& queue) {
        cudaStream_t stream = ctx_.handles().stream;
        // Other threads (diagnostics) may allocate and wait meanwhile: only this one must not.
        cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
        if (error != cudaSuccess) return give_up(cudaGetErrorString(error));
        std::string reason;
        try {
            queue();
        } catch (const std::exception& refused) {
            reason = refused.what();
        }
        cudaGraph_t graph = nullptr;
        error = cudaStreamEndCapture(stream, &graph);
        cudaGraphExec_t made = nullptr;
        if (reason.empty() && error == cudaSuccess) error = cudaGraphInstantiate(&made, graph, 0);
        // Now, so that memory the device may lack is asked for here and not by the first launch.
        if (made) error = cudaGraphUpload(made, stream);
        if (graph) CUDA_CHECK_LOG(cudaGraphDestroy(graph));
        if (reason.empty() && error == cudaSuccess) {
            kind.graph = made;
            return true;
        }
        if (made) CUDA_CHECK_LOG(cudaGraphExecDestroy(made));
        return give_up(reason.empty() ? cudaGetErrorString(error) : reason);
    }
    bool give_up(const std::string& reason) {
        static_cast<void>(cudaGetLastError());  // nothing of it may linger
        failed_ = true;
        std::fprintf(stderr, "no CUDA graph, kernels are launched one by one: %s\n", reason.c_str());
        return false;
    }

    CudaContext& ctx_;
    std::vector<Kind> kinds_;
    const std::byte* scratch_ = nullptr;
    int64_t replays_ = 0;
    bool failed_ = false;
};

}  // namespace

std::unique_ptr<CapturedWork> make_captured_work(CudaContext& ctx) {
    return std::make_unique<CudaCapturedWork>(ctx);
}

}  // namespace pastur
