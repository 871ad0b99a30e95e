#include "engine/train_step.h"

#include <cmath>
#include <vector>

#include "kernels/reduce.h"

namespace pastur {

int64_t micro_batches_of(const Config& config, int ranks) {
    const int64_t per_pass = config.train.micro_batch * ranks;
    if (config.train.global_batch % per_pass != 0)
        fail(ExitCode::kUsage,
             "train.global_batch = {} is not a multiple of train.micro_batch = {} times {} ranks: choose "
             "others",
             config.train.global_batch, config.train.micro_batch, ranks);
    return config.train.global_batch / per_pass;
}

bool TrainStep::Result::finite() const {
    return std::isfinite(loss) && std::isfinite(grad_norm);
}

TrainStep::TrainStep(const Config& config, Context& ctx, Comm& comm, Model& model, AdamW& optimizer)
    : ctx_(ctx),
      comm_(comm),
      model_(model),
      optimizer_(optimizer),
      micro_batches_(micro_batches_of(config, comm.size())),
      tokens_(static_cast<double>(config.train.global_batch * config.data.seq_len)),
      batch_(ctx, model.shape()),
      sums_(allocate(ctx, 2 * size_of(DType::kF64))) {
    const Tensor sums(sums_.data(), DType::kF64, {2});
    loss_sum_ = sums.slice(0, 0, 1);
    grad_sum_squares_ = sums.slice(0, 1, 1);
}

TrainStep::Result TrainStep::run(const std::function<TokenBatch()>& next, int64_t step, double lr) {
    for (int64_t micro = 0; micro < micro_batches_; ++micro) {
        const Update update = micro == 0 ? Update::kAssign : Update::kAccumulate;
        batch_.upload(ctx_, next());
        model_.forward_backward(ctx_, batch_.losses(), batch_.tokens(), batch_.targets(),
                                static_cast<float>(1.0 / tokens_), update);
        sum(ctx_, loss_sum_, batch_.losses(), update);
    }
    comm_.all_reduce_sum(ctx_, loss_sum_);
    comm_.all_reduce_sum(ctx_, model_.params().flat_grad());
    sum_of_squares(ctx_, grad_sum_squares_, model_.params().flat_grad(), Update::kAssign);
    optimizer_.step(ctx_, step, lr, grad_sum_squares_);

    std::vector<double> sums(2);
    download(ctx_, as_tensor(std::span(sums)), Tensor(sums_.data(), DType::kF64, {2}));
    return {sums[0] / tokens_, std::sqrt(sums[1])};
}

double TrainStep::sum_of_squares_of(ConstTensor x) {
    double squares = 0;
    sum_of_squares(ctx_, grad_sum_squares_, x, Update::kAssign);
    download(ctx_, as_tensor(std::span(&squares, 1)), grad_sum_squares_);
    return squares;
}

}  // namespace pastur
