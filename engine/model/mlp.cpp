#include "engine/model/mlp.h"

#include "kernels/linear_swiglu.h"

namespace pastur {

Mlp::Mlp(const Config& config, Parameters& params, const std::string& prefix)
    : params_(params), width_(config.model.d_model), ffn_(stored_ffn(config.model.ffn)) {
    const int64_t ffn = config.model.ffn;
    gate_up_proj_ = Linear(params, params.table().add_matrix_group({{prefix + "gate_proj.weight", ffn, ffn_},
                                                                    {prefix + "up_proj.weight", ffn, ffn_}},
                                                                   width_));
    down_proj_ = Linear(params, params.table().add_matrix(prefix + "down_proj.weight", width_, ffn, ffn_));
}

void Mlp::plan(Context& ctx, Planner& planner, int64_t tokens, Recompute level) {
    level_ = level;
    const DType dtype = params_.compute_dtype();
    Planner::Temporaries temporaries(planner);
    const Shape gate_up = {tokens, 2 * ffn_};
    gate_up_ = level_ >= Recompute::kFfn ? temporaries.take(dtype, gate_up) : planner.keep(dtype, gate_up);
    dactivation_ = temporaries.take(dtype, {tokens, ffn_});
    activation_ = level_ >= Recompute::kNorms ? dactivation_ : planner.keep(dtype, {tokens, ffn_});
    quantized_activation_ = down_proj_.take_quantized_x(temporaries, tokens);
    quantized_dgate_up_ = gate_up_proj_.take_quantized_dy(temporaries, tokens);
    // GEMMs in fp8 need SwiGLU's own pass, which quantises their inputs.
    if (!gate_up_proj_.reads_quantized().x && !down_proj_.reads_quantized().dy)
        fallback_ = linear_swiglu_fallback(ctx, dtype, width_, ffn_);
    for (const Linear* linear : {&gate_up_proj_, &down_proj_})
        linear->plan(ctx, planner, tokens, {.x = true, .dy = true});
}

void Mlp::forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual) {
    gate_up_proj_.forward_swiglu(ctx, activation_, gate_up_, xn, quantized_activation_);
    down_proj_.forward(ctx, out, {activation_, quantized_activation_}, residual);
}

void Mlp::backward(Context& ctx, Tensor dxn, const LinearInput& dout, const LinearInput& xn, Update update) {
    if (level_ >= Recompute::kFfn) gate_up_proj_.forward(ctx, gate_up_, xn);
    const Tensor dgate_up = gate_up_;
    down_proj_.backward_input_swiglu(ctx, dgate_up, level_ >= Recompute::kNorms ? activation_ : Tensor(),
                                     dactivation_, dout, gate_up_, quantized_dgate_up_);
    down_proj_.backward_weight(ctx, dout.numbers, activation_, update);
    gate_up_proj_.backward_input(ctx, dxn, {dgate_up, quantized_dgate_up_});
}

void Mlp::backward_input_weights(Context& ctx, ConstTensor xn, Update update) {
    gate_up_proj_.backward_weight(ctx, gate_up_, xn, update);
}

}  // namespace pastur
