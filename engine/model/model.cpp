#include "engine/model/model.h"

#include "kernels/attention/rope.h"
#include "kernels/base/trace.h"
#include "kernels/embedding.h"
#include "kernels/reduce.h"
#include "kernels/rmsnorm.h"

namespace pastur {

namespace {
std::optional<Fp8Rules> fp8_rules(const TrainConfig& config) {
    if (config.precision != Precision::kFp8) return {};
    return Fp8Rules{config.fp8_min_outputs, config.fp8_min_gradient_side};
}
}  // namespace

DType compute_dtype(const TrainConfig& config, Context& ctx) {
    if (config.precision == Precision::kFp32) return DType::kF32;
    if (config.precision == Precision::kBf16 && !is_cuda(ctx))
        fail(ExitCode::kUsage,
             "precision bf16 (train.precision or --precision) needs a CUDA device: the CPU computes in fp32");
    if (config.precision == Precision::kFp8 && !has_fp8(ctx))
        fail(ExitCode::kNoDevice,
             "train.precision = \"fp8\" needs a GPU of compute capability 9.0: take bf16; this is {}",
             device_name(ctx));
    return is_cuda(ctx) ? DType::kBF16 : DType::kF32;
}

Model::Model(const Config& config, DType compute_dtype, const BatchShape& shape)
    : config_(config),
      shape_(shape),
      recompute_(config.train.recompute.value_or(Recompute::kNone)),
      params_(compute_dtype, fp8_rules(config.train), dtype_of(config.train.weights)) {
    ParamTable& table = params_.table();
    const int64_t width = config.model.d_model;
    embedding_ = table.add_matrix("model.embed_tokens.weight", config.model.vocab, width);
    blocks_.reserve(static_cast<size_t>(config.model.layers));
    for (int64_t layer = 0; layer < config.model.layers; ++layer)
        blocks_.emplace_back(config_, params_, layer);
    final_norm_ = table.add_norm("model.norm.weight", width);
    head_weight_ = config.model.tie_embeddings
                       ? embedding_
                       : table.add_matrix("lm_head.weight", config.model.vocab, width);
    head_ = std::make_unique<LmHead>(config_, params_, head_weight_);
    table.layout();
}

void Model::plan_layers(Context& ctx, Planner& planner) {
    const int64_t tokens = shape_.tokens(), width = config_.model.d_model;
    const DType dtype = params_.compute_dtype();
    const Shape stream = {tokens, width};
    const bool shared_norms = recompute_ == Recompute::kNorms || recompute_ == Recompute::kFfn;
    shared_.xn = shared_norms ? planner.keep(dtype, stream) : Tensor();
    shared_.dxn = planner.keep(dtype, stream);
    const LinearInputs quantized = blocks_.front().reads_quantized();
    shared_.quantized_xn = quantized.x ? planner.keep_fp8(tokens, width) : Fp8Rows();
    shared_.quantized_dx = quantized.dy ? planner.keep_fp8(tokens, width) : Fp8Rows();
    dx_ = planner.keep(dtype, stream);
    if (config_.data.mask_documents) {
        for (Tensor* bounds : {&first_key_, &query_end_})
            *bounds = planner.keep(DType::kI32, {shape_.batch, shape_.time});
        for (Block& block : blocks_) block.mask_documents({first_key_, query_end_});
    }
    for (Block& block : blocks_) block.plan_input(planner, shape_);
    for (Block& block : blocks_)
        block.plan(ctx, planner, shape_, recompute_, shared_, &block == &blocks_.back());
    x_final_ = planner.keep(dtype, stream);
}

void Model::plan(Context& ctx, Planner& planner) {
    plan_layers(ctx, planner);
    const int64_t tokens = shape_.tokens(), width = config_.model.d_model;
    xn_final_ = planner.keep(params_.compute_dtype(), {tokens, width});
    rstd_final_ = planner.keep(DType::kF32, {tokens});
    head_->plan(planner, tokens);
    planner.need_scratch(rmsnorm_backward_scratch_bytes(ctx, tokens, width));
    planner.need_scratch(embedding_backward_scratch_bytes(ctx, tokens, config_.model.vocab));
    planner.need_scratch(sum_scratch_bytes(ctx, params_.table().total_elements()));
    planner.need_scratch(sum_scratch_bytes(ctx, tokens));
    planner.need_scratch(further_scratch_);
}

void Model::plan_decoding(Context& ctx, Planner& planner, std::span<const LayerCache> caches) {
    plan_layers(ctx, planner);
    for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i].plan_decode(ctx, planner, caches[i]);
    const int64_t tokens = shape_.tokens(), rope_width = variant_of(config_).rope_width(config_);
    xn_final_ = planner.keep(params_.compute_dtype(), {tokens, config_.model.d_model});
    rstd_final_ = planner.keep(DType::kF32, {tokens});
    if (rope_width > 0) rope_rows_ = planner.keep(DType::kF32, {tokens, rope_width});
}

Planner Model::measure(Context& ctx) {
    Planner planner;
    plan(ctx, planner);
    return planner;
}

Planner Model::measure_layers(Context& ctx) {
    Planner planner;
    plan_layers(ctx, planner);
    return planner;
}

Planner Model::measure_decoding(Context& ctx, std::span<const LayerCache> caches) {
    Planner planner;
    plan_decoding(ctx, planner, caches);
    return planner;
}

std::string Model::describe_kernels() const {
    std::string text = params_.fp8().describe();
    for (const std::string& kernels :
         {blocks_.front().attention().kernels(), blocks_.front().mlp().fallback()})
        if (!kernels.empty()) text += kernels + "\n";
    return text;
}

void Model::allocate_activations(Context& ctx) {
    const Planner measured = measure(ctx);
    activations_ = pastur::allocate(ctx, measured.bytes());
    Planner carving(activations_, measured);
    plan(ctx, carving);
    reserve_scratch(ctx, measured.scratch_bytes());
    make_rope_table(ctx, shape_.time);
}

void Model::allocate_sharing(Context& ctx, const Model& owner) {
    params_.share(owner.params_);
    separator_ = owner.separator_;
    allocate_activations(ctx);
}

void Model::allocate(Context& ctx, bool with_gradients) {
    params_.allocate(ctx, with_gradients);
    allocate_activations(ctx);
}

void Model::allocate_layers(Context& ctx, const Model& owner) {
    params_.share(owner.params_);
    separator_ = owner.separator_;
    const Planner measured = measure_layers(ctx);
    activations_ = pastur::allocate(ctx, measured.bytes());
    Planner carving(activations_, measured);
    plan_layers(ctx, carving);
    make_rope_table(ctx, shape_.time);
}

void Model::allocate_decoding(Context& ctx, const Model& owner, std::span<const LayerCache> caches,
                              int64_t time) {
    params_.share(owner.params_);
    const Planner measured = measure_decoding(ctx, caches);
    activations_ = pastur::allocate(ctx, measured.bytes());
    Planner carving(activations_, measured);
    plan_decoding(ctx, carving, caches);
    make_rope_table(ctx, time);
    for (Block& block : blocks_) block.prepare_decode(ctx);
}

void Model::make_rope_table(Context& ctx, int64_t time) {
    const Shape table_shape = {time, variant_of(config_).rope_width(config_)};
    if (table_shape[1] == 0) return;  // the variant rotates nothing
    std::vector<float> host(static_cast<size_t>(table_shape.numel()));
    rope_table(as_tensor(std::span(host)).reshape(table_shape), config_.model.rope_theta);
    rope_buffer_ = pastur::allocate(ctx, table_shape.numel() * size_of(DType::kF32));
    rope_table_ = Tensor(rope_buffer_.data(), DType::kF32, table_shape);
    upload(ctx, rope_table_.flat(), as_tensor(std::span(host)));
}

void Model::mask_documents(Context& ctx, ConstTensor tokens) {
    if (!config_.data.mask_documents) return;
    PASTUR_CHECK(separator_.has_value(), "data.mask_documents: the model has no separator of documents");
    find_documents(ctx, first_key_, query_end_, tokens, *separator_);
}

void Model::forward_layers(Context& ctx, ConstTensor tokens, const LayerObserver& observer) {
    mask_documents(ctx, tokens);
    embedding_forward(ctx, blocks_.front().input(), params_.value(embedding_), tokens);
    for (size_t i = 0; i < blocks_.size(); ++i) {
        const TraceRange range("layer", static_cast<int64_t>(i));
        blocks_[i].forward(ctx, i + 1 < blocks_.size() ? blocks_[i + 1].input() : x_final_, rope_table_);
        if (observer) observer(static_cast<int64_t>(i), blocks_[i]);
    }
}

void Model::forward_body(Context& ctx, ConstTensor tokens) {
    const TraceRange range("forward");
    forward_layers(ctx, tokens);
    normalise_output(ctx);
}

void Model::normalise_output(Context& ctx) {
    rmsnorm_forward(ctx, xn_final_, rstd_final_, x_final_, params_.value(final_norm_),
                    static_cast<float>(config_.model.norm_eps));
}

void Model::decode(Context& ctx, ConstTensor tokens, DecodeStep step, std::span<const LayerCache> caches) {
    if (!rope_rows_.empty()) {
        embedding_forward(ctx, rope_rows_, rope_table_, step.positions);
        step.rope_table = rope_table_;
        step.rope_rows = rope_rows_;
    }
    embedding_forward(ctx, blocks_.front().input(), params_.value(embedding_), tokens);
    for (size_t i = 0; i < blocks_.size(); ++i)
        blocks_[i].decode(ctx, i + 1 < blocks_.size() ? blocks_[i + 1].input() : x_final_, step, caches[i]);
}

void Model::decode_logits(Context& ctx, Tensor logits) {
    normalise_output(ctx);
    head_->logits(ctx, logits, xn_final_);
}

void Model::backward_body(Context& ctx, Tensor dx, ConstTensor tokens, Update update,
                          const GradientsReady& ready) {
    const TraceRange range("backward");
    rmsnorm_backward(ctx, {.dx = dx,
                           .dweight = params_.grad(final_norm_),
                           .dweight_update = update,
                           .dy = shared_.dxn,
                           .x = x_final_,
                           .rstd = rstd_final_,
                           .weight = params_.value(final_norm_),
                           .quantized_dx = blocks_.back().quantized_output_gradient()});
    for (size_t i = blocks_.size(); i-- > 0;) {
        {
            const TraceRange layer("layer", static_cast<int64_t>(i));
            blocks_[i].backward(ctx, dx, rope_table_, update);
        }
        if (ready) ready(blocks_[i].first_matrix_offset());
    }
    // The gradient of a tied embedding already holds the LM head's share of this pass.
    embedding_backward(ctx, params_.grad(embedding_), dx, tokens,
                       config_.model.tie_embeddings ? Update::kAccumulate : update);
}

void Model::forward(Context& ctx, Tensor losses, ConstTensor tokens, ConstTensor targets) {
    forward_body(ctx, tokens);
    head_->forward(ctx, losses, xn_final_, targets);
}

void Model::forward_backward(Context& ctx, Tensor losses, ConstTensor tokens, ConstTensor targets,
                             float scale, Update update, const GradientsReady& ready) {
    forward_body(ctx, tokens);
    {
        const TraceRange range("lm head");
        head_->forward_backward(ctx, losses, shared_.dxn, xn_final_, targets, scale, update);
    }
    if (ready && !config_.model.tie_embeddings) ready(params_.table().group(head_weight_).offset);
    backward_body(ctx, dx_, tokens, update, ready);
}

void Model::track_max_logits(Tensor max_logits) {
    for (size_t i = 0; i < blocks_.size(); ++i) {
        const auto layer = static_cast<int64_t>(i);
        blocks_[i].track_max_logit(max_logits.empty()
                                       ? Tensor()
                                       : Tensor(max_logits.slice(0, layer, 1).bytes(), DType::kF32,
                                                {max_logits.size(1)}, {max_logits.stride(1)}));
    }
}

void Model::logits(Context& ctx, Tensor logits) {
    head_->logits(ctx, logits, xn_final_);
}

ModelSize size_of_model(const Config& config, const ParamTable& table) {
    int64_t matmul = 0;
    for (const Param& param : table.params())
        if (param.is_matrix() && param.per_token) matmul += param.shape.numel();
    const int64_t embedding = config.model.vocab * config.model.d_model;
    if (!config.model.tie_embeddings) matmul -= embedding;
    const VariantInfo& variant = variant_of(config);
    const CoreWidths core = variant.core_widths(config);
    const auto attention = static_cast<double>(config.model.layers * config.model.heads * (core.qk + core.v) *
                                               config.data.seq_len);
    return {table.count(), 6.0 * static_cast<double>(matmul) + 3.0 * attention,
            config.model.layers * variant.cache_values(config) * size_of(DType::kBF16)};
}

}  // namespace pastur
