#include "engine/train/training_setup.h"

#include "engine/spectra/probe/probe.h"
#include "engine/train/checkpoint/checkpoint_image.h"
#include "engine/train/optimizer/gradient_sync.h"
#include "engine/train/optimizer/qk_clip.h"

namespace pastur {

TrainingSetup::TrainingSetup(const Config& config, DType compute_dtype, int rank, int ranks,
                             Transport transport)
    : rank_(rank),
      ranks_(ranks),
      transport_(transport),
      model_(config, compute_dtype, {config.train.micro_batch, config.data.seq_len}),
      optimizer_(config.train, model_.params()) {
    ParamTable& table = model_.params().table();
    GradientSync::lay_out(config.train, ranks, table);
    optimizer_.own(GradientSync::owned(config.train, rank, ranks, table));
    model_.set_further_scratch(optimizer_.scratch_bytes());
}

MemoryPlan TrainingSetup::plan(Context& ctx, Purpose purpose, bool ctx_is_target) {
    MemoryPlan plan = plan_memory(ctx, model_, purpose == Purpose::kEvaluate ? nullptr : &optimizer_);
    if (purpose == Purpose::kEvaluate) return plan;
    if (const int64_t bytes =
            GradientSync::planned_bytes(config().train, table(), ranks_, transport_, is_cuda(ctx)))
        plan.entries.push_back({"gradient sums", bytes});
    if (const int64_t bytes = QkClip::planned_bytes(config(), ranks_))
        plan.entries.push_back({"largest logits", bytes});
    if (purpose == Purpose::kSteps) return plan;
    if (measures_weights(config().diagnostics))
        plan.entries.push_back(
            {"diagnostics", Monitor::planned_bytes(ctx, config(), table(), rank_, ranks_)});
    if (rank_ == 0 && measures_activations(config().diagnostics))
        plan.entries.push_back(
            {"diagnostics probe", Probe::planned_bytes(ctx, model_, config().diagnostics)});
    if (ctx_is_target && !is_cuda(ctx) && checkpoint_bytes() > 0)
        plan.entries.push_back({"checkpoint copy", checkpoint_bytes()});
    return plan;
}

int64_t TrainingSetup::checkpoint_bytes() const {
    return CheckpointImage::planned_bytes(model_.params(), optimizer_, rank_);
}

void TrainingSetup::allocate(Context& ctx, Purpose purpose) {
    const bool trains = purpose != Purpose::kEvaluate;
    model_.allocate(ctx, trains);
    if (trains) optimizer_.allocate(ctx);
}

}  // namespace pastur
