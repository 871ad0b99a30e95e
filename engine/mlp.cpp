#include "engine/mlp.h"

#include "kernels/matmul.h"
#include "kernels/swiglu.h"

namespace pastur {

Mlp::Mlp(const Config& config, Parameters& params, const std::string& prefix)
    : params_(params), ffn_(stored_ffn(config.model.ffn)), level_(recompute_level(config.train.recompute)) {
    const int64_t width = config.model.d_model, ffn = config.model.ffn;
    gate_up_proj_ = params.table().add_matrix_group(
        {{prefix + "gate_proj.weight", ffn, ffn_}, {prefix + "up_proj.weight", ffn, ffn_}}, width);
    down_proj_ = params.table().add_matrix(prefix + "down_proj.weight", width, ffn, ffn_);
}

void Mlp::plan(Planner& planner, int64_t tokens) {
    const DType dtype = params_.compute_dtype();
    Planner::Temporaries temporaries(planner);
    const auto place = [&](int64_t width, Recompute made_again_from) {
        const Shape shape = {tokens, width};
        return level_ >= made_again_from ? temporaries.take(dtype, shape) : planner.keep(dtype, shape);
    };
    gate_up_ = place(2 * ffn_, Recompute::kFfn);
    activation_ = place(ffn_, Recompute::kNorms);
    dactivation_ = temporaries.take(dtype, {tokens, ffn_});
}

void Mlp::forward(Context& ctx, Tensor out, ConstTensor xn, ConstTensor residual) {
    linear_forward(ctx, gate_up_, xn, params_.value(gate_up_proj_));
    swiglu_forward(ctx, activation_, gate_up_);
    linear_forward(ctx, out, activation_, params_.value(down_proj_), residual);
}

void Mlp::backward(Context& ctx, Tensor dxn, ConstTensor dout, ConstTensor xn, Update update) {
    if (level_ >= Recompute::kFfn) linear_forward(ctx, gate_up_, xn, params_.value(gate_up_proj_));
    if (level_ >= Recompute::kNorms) swiglu_forward(ctx, activation_, gate_up_);
    linear_backward_weight(ctx, params_.grad(down_proj_), dout, activation_, update);
    linear_backward_input(ctx, dactivation_, dout, params_.value(down_proj_), Update::kAssign);
    const Tensor dgate_up = gate_up_;
    swiglu_backward(ctx, dgate_up, {}, dactivation_, gate_up_);
    linear_backward_weight(ctx, params_.grad(gate_up_proj_), dgate_up, xn, update);
    linear_backward_input(ctx, dxn, dgate_up, params_.value(gate_up_proj_), Update::kAssign);
}

}  // namespace pastur
