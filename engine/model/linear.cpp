#include "engine/model/linear.h"

#include "kernels/linear_swiglu.h"
#include "kernels/matmul.h"
#include "kernels/swiglu.h"

namespace pastur {

Fp8Rows Linear::take_quantized_x(Planner::Temporaries& temporaries, int64_t tokens) const {
    return fp8().forward() ? temporaries.take_fp8(tokens, shape()[1]) : Fp8Rows();
}

Fp8Rows Linear::take_quantized_dy(Planner::Temporaries& temporaries, int64_t tokens) const {
    return fp8().backward_input() ? temporaries.take_fp8(tokens, shape()[0]) : Fp8Rows();
}

void Linear::plan(Context& ctx, Planner& planner, int64_t tokens, LinearInputs given) const {
    const int64_t out = shape()[0], in = shape()[1];
    if (fp8().forward()) planner.need_scratch(fp8_linear_scratch_bytes(ctx, tokens, out, in, given.x));
    if (fp8().backward_input())
        planner.need_scratch(fp8_linear_scratch_bytes(ctx, tokens, in, out, given.dy));
    if (fp8().backward_weight(tokens))
        planner.need_scratch(fp8_weight_gradient_scratch_bytes(ctx, tokens, out, in));
}

void Linear::forward(Context& ctx, Tensor y, const LinearInput& x, ConstTensor residual) const {
    if (!fp8().forward() || !fp8_writes(y) || !(residual.empty() || fp8_writes(residual)))
        return linear_forward(ctx, y, x.numbers, params_->value(matrix_), residual);
    if (x.quantized.empty())
        linear_forward(ctx, y, x.numbers, fp8().rows, residual);
    else
        linear_forward(ctx, y, x.quantized, fp8().rows, residual);
}

bool Linear::forward_rotating(Context& ctx, Tensor y, const LinearInput& x,
                              const HeadRotation& rotation) const {
    if (fp8().forward() || rotation.table.empty() ||
        !has_linear_rope(ctx, y, x.numbers, params_->value(matrix_), rotation)) {
        forward(ctx, y, x);
        return false;
    }
    linear_rope_forward(ctx, y, x.numbers, params_->value(matrix_), rotation);
    return true;
}

std::string Linear::rotating_fallback(Context& ctx, int64_t head) const {
    if (fp8().forward()) return "";
    return linear_rope_fallback(ctx, params_->compute_dtype(), shape()[1], shape()[0], head);
}

void Linear::backward_input(Context& ctx, Tensor dx, const LinearInput& dy, Update update) const {
    if (!fp8().backward_input() || !fp8_writes(dx))
        return linear_backward_input(ctx, dx, dy.numbers, params_->value(matrix_), update);
    if (dy.quantized.empty())
        linear_backward_input(ctx, dx, dy.numbers, fp8().columns, update);
    else
        linear_backward_input(ctx, dx, dy.quantized, fp8().columns, update);
}

void Linear::forward_swiglu(Context& ctx, Tensor out, Tensor gu, const LinearInput& x,
                            const Fp8Rows& quantized) const {
    if (!fp8().forward() && quantized.empty())
        return linear_swiglu_forward(ctx, out, gu, x.numbers, params_->value(matrix_));
    forward(ctx, gu, x);
    swiglu_forward(ctx, out, gu, quantized);
}

void Linear::backward_input_swiglu(Context& ctx, Tensor dgu, Tensor out, Tensor dout, const LinearInput& dy,
                                   ConstTensor gu, const Fp8Rows& quantized) const {
    if (!fp8().backward_input() && quantized.empty())
        return linear_swiglu_backward(ctx, dgu, out, dout, dy.numbers, params_->value(matrix_), gu);
    backward_input(ctx, dout, dy);
    swiglu_backward(ctx, dgu, out, dout, gu, quantized);
}

void Linear::backward_weight(Context& ctx, ConstTensor dy, ConstTensor x, Update update) const {
    const Tensor gradient = params_->grad(matrix_);
    if (fp8().backward_weight(dy.size(0)) && fp8_writes(gradient))
        linear_backward_weight_in_fp8(ctx, gradient, dy, x, update);
    else
        linear_backward_weight(ctx, gradient, dy, x, update);
}

}  // namespace pastur
