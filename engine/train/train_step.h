#pragma once
// One optimizer step on a rank's share of the batch; `train` repeats it and `bench` measures it.
#include <functional>
#include <optional>

#include "engine/model/batch.h"
#include "engine/model/model.h"
#include "engine/ranks/comm.h"
#include "engine/train/optimizer/gradient_sync.h"
#include "engine/train/optimizer/optimizer.h"
#include "engine/train/optimizer/qk_clip.h"
#include "kernels/base/captured_work.h"

namespace pastur {

class TrainStep {
  public:
    /// Allocates a token batch. model and optimizer must be allocated and outlive the step.
    TrainStep(const Config& config, Context& ctx, Comm& comm, Model& model, Optimizer& optimizer);

    struct Result {
        int64_t tokens;    ///< of the step, without padding
        double loss;       ///< mean over these tokens
        double grad_norm;  ///< before clipping
        bool updated;      ///< false: loss or gradient is not finite, or the gradient's squares overflow fp32
        std::optional<QkClip::Result> qk_clip = {};  ///< none: train.qk_clip = 0
    };
    /// Forward and backward of each micro-batch that next() hands out, clipping, update, train.qk_clip; `step` counts from
    /// 0. targets: of all micro-batches on all ranks, without those that the loss ignores, at least 1; the loss is the
    /// mean over them. Weights change only where Result::updated. Returns when the device has finished.
    Result run(const std::function<TokenBatch()>& next, int64_t step, double lr, int64_t targets);
    /// run() with a target at every position.
    Result run(const std::function<TokenBatch()>& next, int64_t step, double lr) {
        return run(next, step, lr, positions_);
    }

    DeviceBatch& batch() { return batch_; }
    GradientSync& sync() { return sync_; }
    /// Sum of squares of x f32, returned to the host.
    double sum_of_squares_of(ConstTensor x);
    /// Number of micro-batches that a CUDA graph replayed.
    int64_t replayed() const { return captured_ ? captured_->replays() : 0; }

  private:
    void run_micro_batch(const TokenBatch& tokens, int64_t micro);
    /// Forward, backward and the sum of the losses of the uploaded micro-batch.
    void queue_passes(int64_t micro, const GradientsReady& ready);
    /// loss_sum_ = the sum over all ranks.
    void reduce_losses();
    Context& ctx_;
    Comm& comm_;
    Model& model_;
    Optimizer& optimizer_;
    int64_t micro_batches_;  ///< per step and rank
    int64_t positions_;      ///< per step, over all ranks
    double targets_;         ///< of the present step, over all ranks
    DeviceBatch batch_;
    GradientSync sync_;
    Buffer sums_;
    Tensor grad_sum_squares_, loss_sum_;  ///< f64 [1] each, adjacent
    Tensor step_sums_;                    ///< f64 [2]: both
    Tensor micro_losses_;                 ///< f64 [M]: one per micro-batch of the step, over all ranks
    std::optional<QkClip> qk_clip_;
    /// Declared last, so graphs are destroyed before the buffers they use; null: train.cuda_graph = false.
    std::unique_ptr<CapturedWork> captured_;
};

/// Micro-batches per step and rank. Throws (kUsage) if the batch does not divide over the ranks.
int64_t micro_batches_of(const Config& config, int ranks);

}  // namespace pastur
