#include "engine/train/train_step.h"

#include <cmath>
#include <vector>

#include "kernels/base/trace.h"
#include "kernels/fill.h"
#include "kernels/reduce.h"

namespace pastur {

int64_t micro_batches_of(const Config& config, int ranks) {
    const int64_t per_pass = config.train.micro_batch * ranks;
    if (config.train.global_batch % per_pass != 0)
        fail(ExitCode::kUsage,
             "choose another train.micro_batch or number of ranks: train.global_batch = {} is not a multiple "
             "of train.micro_batch = {} times {} ranks",
             config.train.global_batch, config.train.micro_batch, ranks);
    return config.train.global_batch / per_pass;
}

TrainStep::TrainStep(const Config& config, Context& ctx, Comm& comm, Model& model, Optimizer& optimizer)
    : ctx_(ctx),
      comm_(comm),
      model_(model),
      optimizer_(optimizer),
      micro_batches_(micro_batches_of(config, comm.size())),
      positions_(config.train.global_batch * config.data.seq_len),
      targets_(static_cast<double>(positions_)),
      batch_(ctx, model.shape()),
      sync_(config.train, ctx, comm, model.params()) {
    const int64_t all = micro_batches_ * comm.size();
    sums_ = allocate(ctx, (2 + all) * size_of(DType::kF64));
    const Tensor sums(sums_.data(), DType::kF64, {2 + all});
    grad_sum_squares_ = sums.slice(0, 0, 1);
    loss_sum_ = sums.slice(0, 1, 1);
    step_sums_ = sums.slice(0, 0, 2);
    micro_losses_ = sums.slice(0, 2, all);
    if (config.train.qk_clip > 0) qk_clip_.emplace(config, ctx, comm, model);
    // A graph holds the scale of the gradients, which depends on the padding of the step.
    if (config.train.cuda_graph && config.data.packing == Packing::kStream)
        captured_ = make_captured_work(ctx);
}

void TrainStep::run_micro_batch(const TokenBatch& tokens, int64_t micro) {
    const TraceRange range("micro-batch");
    batch_.upload(ctx_, tokens);
    sync_.begin(micro, micro + 1 == micro_batches_);
    // The host sends buckets between kernels, so such a micro-batch is launched kernel by kernel, also over
    // NCCL, whose calls could be captured. All other micro-batches differ only in = and +=, hence two graphs.
    if (captured_ && !sync_.sends())
        captured_->run(micro == 0 ? 0 : 1, [this, micro] { queue_passes(micro, {}); });
    else
        queue_passes(micro, [this](int64_t frontier) { sync_.ready(frontier); });
    sync_.end();
}

void TrainStep::queue_passes(int64_t micro, const GradientsReady& ready) {
    const Update update = micro == 0 ? Update::kAssign : Update::kAccumulate;
    model_.forward_backward(ctx_, batch_.losses(), batch_.tokens(), batch_.targets(),
                            static_cast<float>(1.0 / targets_), sync_.ordered() ? Update::kAssign : update,
                            ready);
    if (sync_.ordered())
        sum(ctx_, micro_losses_.slice(0, micro * comm_.size() + comm_.rank(), 1), batch_.losses(),
            Update::kAssign);
    else
        sum(ctx_, loss_sum_, batch_.losses(), update);
}

void TrainStep::reduce_losses() {
    const TraceRange range("comm: losses");
    if (!sync_.ordered()) return comm_.all_reduce_sum(ctx_, loss_sum_);
    // Each value is nonzero on one rank only, so the sum does not depend on the order of ranks.
    comm_.all_reduce_sum(ctx_, micro_losses_);
    sum(ctx_, loss_sum_, micro_losses_, Update::kAssign);
}

TrainStep::Result TrainStep::run(const std::function<TokenBatch()>& next, int64_t step, double lr,
                                 int64_t targets) {
    targets_ = static_cast<double>(targets);
    if (sync_.ordered()) fill(ctx_, micro_losses_, 0.0f);
    if (qk_clip_) qk_clip_->begin_step();
    for (int64_t micro = 0; micro < micro_batches_; ++micro) run_micro_batch(next(), micro);
    reduce_losses();
    sync_.sum_of_squares(grad_sum_squares_);
    {
        const TraceRange range("optimizer");
        optimizer_.step(ctx_, step, lr, step_sums_);
    }
    sync_.share_weights();

    std::vector<double> sums(2);
    download(ctx_, as_tensor(std::span(sums)), step_sums_);
    Result result{targets, sums[1] / targets_, std::sqrt(sums[0]), optimizer_.accepts(sums)};
    if (qk_clip_) result.qk_clip = qk_clip_->end_step(step, result.updated);
    return result;
}

double TrainStep::sum_of_squares_of(ConstTensor x) {
    double squares = 0;
    sum_of_squares(ctx_, grad_sum_squares_, x, Update::kAssign);
    download(ctx_, as_tensor(std::span(&squares, 1)), grad_sum_squares_);
    return squares;
}

}  // namespace pastur
