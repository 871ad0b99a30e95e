#include "engine/model/attention/latent.h"

#include "kernels/rmsnorm.h"

namespace pastur {

Latent::Latent(Parameters& params, const std::string& norm_name, int64_t width, double eps, float gain)
    : params_(params),
      normed_(!norm_name.empty()),
      width_(width),
      eps_(static_cast<float>(eps)),
      gain_(gain) {
    if (normed_) norm_ = params.table().add_norm(norm_name, width);
}

void Latent::plan(Context& ctx, Planner& planner, Planner::Temporaries& temporaries, int64_t tokens) {
    if (!normed_) return;
    normalised_ = planner.keep(params_.compute_dtype(), {tokens, width_});
    rstd_ = planner.keep(DType::kF32, {tokens});
    dnormalised_ = temporaries.take(params_.compute_dtype(), {tokens, width_});
    planner.need_scratch(rmsnorm_backward_scratch_bytes(ctx, tokens, width_));
}

ConstTensor Latent::forward(Context& ctx, ConstTensor c) {
    if (normed_) rmsnorm_forward(ctx, normalised_, rstd_, c, params_.value(norm_), eps_, {}, gain_);
    return value(c);
}

void Latent::backward(Context& ctx, Tensor dc, ConstTensor c, Update update) {
    if (!normed_) return;
    rmsnorm_backward(ctx, {.dx = dc,
                           .dweight = params_.grad(norm_),
                           .dweight_update = update,
                           .dy = dnormalised_,
                           .x = c,
                           .rstd = rstd_,
                           .weight = params_.value(norm_),
                           .gain = gain_});
}

}  // namespace pastur
