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
        // A replay may be running while an exception unwinds. Its error is reported by the next wait for the
        // stream.
        static_cast<void>(cudaStreamSynchronize(ctx_.handles().stream));
        drop();
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
    void forget() override {
        CUDA_CHECK(cudaStreamSynchronize(ctx_.handles().stream));
        drop();
    }
    int64_t replays() const override { return replays_; }

  private:
    struct Kind {
        bool warm = false;
        cudaGraphExec_t graph = nullptr;
    };

    /// Drops the graphs if the scratch arena was replaced, because they hold addresses in the old one.
    void follow_scratch() {
        Arena::Frame frame(ctx_.scratch(), "captured work");
        const std::byte* scratch = nullptr;
        if (ctx_.scratch().capacity() >= kAlignment) scratch = frame.take(DType::kF32, {1}).bytes();
        if (scratch == scratch_) return;
        drop();
        scratch_ = scratch;
    }
    void drop() noexcept {
        for (Kind& kind : kinds_)
            if (kind.graph) CUDA_CHECK_LOG(cudaGraphExecDestroy(kind.graph));
        kinds_.clear();
    }

    /// Returns false if the work cannot be captured, after which run() does not try again. A failed capture
    /// leaves no trace on the device.
    bool capture(Kind& kind, const std::function<void()>& queue) {
        cudaStream_t stream = ctx_.handles().stream;
        // Thread-local mode: other threads (diagnostics) may allocate and wait during the capture.
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
        cudaGraphExec_t executable = nullptr;
        if (reason.empty() && error == cudaSuccess) error = cudaGraphInstantiate(&executable, graph, 0);
        // The upload allocates device memory here, where a failure falls back, instead of in the first
        // launch.
        if (executable) error = cudaGraphUpload(executable, stream);
        if (graph) CUDA_CHECK_LOG(cudaGraphDestroy(graph));
        if (reason.empty() && error == cudaSuccess) {
            kind.graph = executable;
            return true;
        }
        if (executable) CUDA_CHECK_LOG(cudaGraphExecDestroy(executable));
        return give_up(reason.empty() ? cudaGetErrorString(error) : reason);
    }
    bool give_up(const std::string& reason) {
        static_cast<void>(cudaGetLastError());  // clears it
        failed_ = true;
        std::fprintf(stderr, "CUDA graph capture failed, kernels are launched one by one: %s\n",
                     reason.c_str());
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
