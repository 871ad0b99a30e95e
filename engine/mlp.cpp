#include "engine/mlp.h"

#include "kernels/matmul.h"
#include "kernels/swiglu.h"

namespace pastur {

Mlp::Mlp(const Config& config, Parameters& params, const std::string& prefix)
    : params_(params), ffn_(stored_ffn(config.model.ffn)) {
    const int64_t width = config.model.d_model, ffn = config.model.ffn;
    gate_up_proj_ = params.table().add_matrix_group(
        {{prefix + "gate_proj.weight", ffn, ffn_}, {prefix + "up_proj.weight", ffn, ffn_}}, width);
    down_proj_ = params.table().add_matrix(prefix + "down_proj.weight", width, ffn, ffn_);
}

void Mlp::plan(Planner& planner, int64_t tokens, Recompute level) {
    level_ = level;
    const DType dtype = params_.compute_dtype();
    Planner::Temporaries temporaries(planner);
    const Shape gate_up = {tokens, 2 * ffn_};
    gate_up_ = level_ >= Recompute::kFfn ? temporaries.take(dtype, gate_up) : planner.keep(dtype, gate_up);
    dactivation_ = temporaries.take(dtype, {tokens, ffn_});
    activation_ = level_ >= Recompute::kNorms ? dactivation_ : planner.keep(dtype, {tokens, ffn_});
}

void Mlp::forward(Context& ctx, Tensor out, ConstTensor xn, ConstTensor residual) {
    linear_forward(ctx, gate_up_, xn, params_.value(gate_up_proj_));
    swiglu_forward(ctx, activation_, gate_up_);
    linear_forward(ctx, out, activation_, params_.value(down_proj_), residual);
}

void Mlp::backward(Context& ctx, Tensor dxn, ConstTensor dout, ConstTensor xn, Update update) {
    if (level_ >= Recompute::kFfn) linear_forward(ctx, gate_up_, xn, params_.value(gate_up_proj_));
    linear_backward_input(ctx, dactivation_, dout, params_.value(down_proj_), Update::kAssign);
    const Tensor dgate_up = gate_up_;
    swiglu_backward(ctx, dgate_up, level_ >= Recompute::kNorms ? activation_ : Tensor(), dactivation_,
                    gate_up_);
    linear_backward_weight(ctx, params_.grad(down_proj_), dout, activation_, update);
    linear_backward_input(ctx, dxn, dgate_up, params_.value(gate_up_proj_), Update::kAssign);
}

void Mlp::backward_input_weights(Context& ctx, ConstTensor xn, Update update) {
    linear_backward_weight(ctx, params_.grad(gate_up_proj_), gate_up_, xn, update);
}

}  // namespace pastur
