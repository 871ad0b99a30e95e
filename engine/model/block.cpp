#include "engine/model/block.h"

#include "kernels/rmsnorm.h"

namespace pastur {
namespace {
std::string prefix_of(int64_t layer) {
    return fmt::format("model.layers.{}.", layer);
}
}  // namespace

Block::Block(const Config& config, Parameters& params, int64_t layer)
    : params_(params),
      layer_(layer),
      width_(config.model.d_model),
      eps_(static_cast<float>(config.model.norm_eps)),
      attention_norm_{params.table().add_norm(prefix_of(layer) + "input_layernorm.weight", width_), {}, {}},
      mlp_norm_{
          params.table().add_norm(prefix_of(layer) + "post_attention_layernorm.weight", width_), {}, {}},
      attention_(variant_of(config).make(config, params, prefix_of(layer) + "self_attn.")),
      mlp_(config, params, prefix_of(layer) + "mlp.") {}

void Block::plan_input(Planner& planner, const BatchShape& shape) {
    x_ = planner.keep(params_.compute_dtype(), {shape.tokens(), width_});
}

void Block::plan(Context& ctx, Planner& planner, const BatchShape& shape, Recompute level,
                 const SharedActivations& shared, bool last) {
    level_ = level;
    shared_ = shared;
    last_ = last;
    if (level_ == Recompute::kBlock) {
        const Planner::Turn turn(planner);
        plan_kept(ctx, planner, shape);
    } else {
        plan_kept(ctx, planner, shape);
    }
    planner.need_scratch(rmsnorm_backward_scratch_bytes(ctx, shape.tokens(), width_));
}

void Block::plan_kept(Context& ctx, Planner& planner, const BatchShape& shape) {
    const DType dtype = params_.compute_dtype();
    const Shape stream = {shape.tokens(), width_};
    x_mid_ = planner.keep(dtype, stream);
    for (Norm* norm : {&attention_norm_, &mlp_norm_}) {
        norm->rstd = planner.keep(DType::kF32, {shape.tokens()});
        norm->xn = shared_.xn.empty() ? planner.keep(dtype, stream) : shared_.xn;
    }
    attention_->plan(ctx, planner, shape);
    mlp_.plan(ctx, planner, shape.tokens(), level_);
}

LinearInputs Block::reads_quantized() const {
    const LinearInputs attention = attention_->reads_quantized(), mlp = mlp_.reads_quantized();
    return {.x = attention.x || mlp.x, .dy = attention.dy || mlp.dy};
}

void Block::forward_norm(Context& ctx, const Norm& norm, ConstTensor x, LinearInputs half) {
    rmsnorm_forward(ctx, norm.xn, norm.rstd, x, params_.value(norm.weight), eps_, quantized_xn(half));
}

void Block::backward_norm(Context& ctx, const Norm& norm, Tensor dx, Tensor recomputed_xn, ConstTensor x,
                          Update update, const Fp8Rows& quantized_dx) {
    rmsnorm_backward(ctx, {.dx = dx,
                           .dweight = params_.grad(norm.weight),
                           .dweight_update = update,
                           .dy = shared_.dxn,
                           .x = x,
                           .rstd = norm.rstd,
                           .weight = params_.value(norm.weight),
                           .dresidual = dx,
                           .out = recomputed_xn,
                           .quantized_dx = quantized_dx});
}

void Block::forward_attention_half(Context& ctx, ConstTensor rope_table) {
    const LinearInputs attention = attention_->reads_quantized();
    forward_norm(ctx, attention_norm_, x_, attention);
    attention_->forward(ctx, x_mid_, {attention_norm_.xn, quantized_xn(attention)}, x_, rope_table);
    forward_norm(ctx, mlp_norm_, x_mid_, mlp_.reads_quantized());
}

void Block::forward(Context& ctx, Tensor out, ConstTensor rope_table) {
    forward_attention_half(ctx, rope_table);
    mlp_.forward(ctx, out, {mlp_norm_.xn, quantized_xn(mlp_.reads_quantized())}, x_mid_);
}

void Block::decode(Context& ctx, Tensor out, const DecodeStep& step, const LayerCache& cache) {
    const LinearInputs attention = attention_->reads_quantized(), mlp = mlp_.reads_quantized();
    forward_norm(ctx, attention_norm_, x_, attention);
    attention_->decode(ctx, x_mid_, {attention_norm_.xn, quantized_xn(attention)}, x_, step, cache);
    forward_norm(ctx, mlp_norm_, x_mid_, mlp);
    mlp_.forward(ctx, out, {mlp_norm_.xn, quantized_xn(mlp)}, x_mid_);
}

void Block::backward(Context& ctx, Tensor dx, ConstTensor rope_table, Update update) {
    const LinearInputs attention = attention_->reads_quantized(), mlp = mlp_.reads_quantized();
    // Layers share the memory of their activations; the last layer's are still in it.
    if (level_ == Recompute::kBlock && !last_) forward_attention_half(ctx, rope_table);
    // The MLP's backward recomputes gate and up from the MLP's input, so that input comes first. At the other
    // levels only the weight gradients read it; backward_norm() recomputes it for them where it was not kept.
    const bool recompute_mlp_input = level_ == Recompute::kFfn;
    if (recompute_mlp_input) forward_norm(ctx, mlp_norm_, x_mid_, mlp);
    mlp_.backward(ctx, shared_.dxn, {dx, quantized_dx(mlp)}, {mlp_norm_.xn, quantized_xn(mlp)}, update);
    backward_norm(ctx, mlp_norm_, dx, recompute_mlp_input ? Tensor() : shared_.xn, x_mid_, update,
                  quantized_dx(attention));
    mlp_.backward_input_weights(ctx, mlp_norm_.xn, update);
    attention_->backward(ctx, shared_.dxn, {dx, quantized_dx(attention)}, rope_table, update);
    // The next reader of dx is the MLP half of the layer below; below the first layer it is the embedding.
    backward_norm(ctx, attention_norm_, dx, shared_.xn, x_, update,
                  layer_ > 0 ? quantized_dx(mlp) : Fp8Rows());
    attention_->backward_input_weights(ctx, attention_norm_.xn, rope_table, update);
}

int64_t Block::first_matrix_offset() const {
    const std::vector<ParamGroup>& groups = params_.table().groups();
    auto group = static_cast<size_t>(attention_norm_.weight);  // the layer's first group; its matrices follow
    while (groups[group].shape.rank() != 2) ++group;
    return groups[group].offset;
}

}  // namespace pastur
