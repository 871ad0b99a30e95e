#pragma once
// The parts of a training run on one rank, assembled once for train, bench, plan and eval.
#include "engine/model/model.h"
#include "engine/ranks/comm.h"
#include "engine/train/memory_plan.h"
#include "engine/train/optimizer/optimizer.h"

namespace pastur {

/// Model and optimizer of rank `rank` of `ranks`. The flat buffers are padded to divide over the ranks, and
/// the optimizer owns the parts whose moments this rank keeps. The constructor allocates no device memory.
class TrainingSetup {
  public:
    TrainingSetup(const Config& config, DType compute_dtype, int rank = 0, int ranks = 1,
                  Transport transport = Transport::kNone);

    const Config& config() const { return model_.config(); }
    int rank() const { return rank_; }
    int ranks() const { return ranks_; }
    Model& model() { return model_; }
    Parameters& params() { return model_.params(); }
    const Parameters& params() const { return model_.params(); }
    const ParamTable& table() const { return model_.params().table(); }
    Optimizer& optimizer() { return optimizer_; }
    ModelSize size() const { return size_of_model(config(), table()); }

    enum class Purpose {
        kEvaluate,  ///< forward passes only
        kSteps,     ///< training steps
        kRun,       ///< training steps, diagnostics and checkpoints
    };
    /// Device memory of this rank by entry. With ctx_is_target = false, ctx stands for a GPU that is not
    /// present, so host memory is not counted.
    MemoryPlan plan(Context& ctx, Purpose purpose, bool ctx_is_target = true);
    /// Host memory of the copy that checkpoints are written from. On the CPU, plan() includes it.
    int64_t checkpoint_bytes() const;

    /// Allocates parameters, activations, scratch and, unless only evaluating, gradients and moments (zero).
    void allocate(Context& ctx, Purpose purpose);

  private:
    int rank_, ranks_;
    Transport transport_;
    Model model_;
    Optimizer optimizer_;
};

}  // namespace pastur
