#include "tests/support/model_harness.h"

#include <algorithm>
#include <cmath>

#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"

namespace pastur::test {

Config tiny_config(const std::string& attention, const std::string& model) {
    return parse_config(
        "[model]\npreset = \"nano\"\nvocab = 19\nd_model = 12\nlayers = 2\nheads = 2\nffn = 10\n" + model +
            "\n[attention]\n" + attention + "\n[data]\nseq_len = 5\n[train]\nglobal_batch = 2\n",
        "tiny", {});
}

const std::vector<VariantCase>& every_attention() {
    static const std::vector<VariantCase> all = {
        {"mha", "variant = \"mha\"", ""},
        {"mha_grouped", "variant = \"mha\"", "head_dim = 4\nkv_heads = 1"},
        {"mha_tied", "variant = \"mha\"", "tie_embeddings = true"},
        {"prerope_keys", "variant = \"mla-prerope\"\nk_rank = 5\nv_rank = 3", ""},
        {"prerope_keys_normed", "variant = \"mla-prerope\"\nk_rank = 5\nv_rank = 3\nlatent_norm = true", ""},
        {"prerope_input", "variant = \"mla-prerope\"\nprerope_site = \"input\"\nkv_rank = 7", ""},
        {"prerope_input_normed",
         "variant = \"mla-prerope\"\nprerope_site = \"input\"\nkv_rank = 7\nlatent_norm = true", ""},
        {"decoupled", "variant = \"mla-decoupled\"\nkv_rank = 7\nnope_dim = 3\nrope_dim = 2\nv_dim = 5", ""},
        {"decoupled_q_rank",
         "variant = \"mla-decoupled\"\nkv_rank = 7\nnope_dim = 3\nrope_dim = 2\nv_dim = 5\nq_rank = 4", ""},
        {"decoupled_without_norm",
         "variant = \"mla-decoupled\"\nkv_rank = 7\nnope_dim = 3\nrope_dim = 2\nv_dim = 5\nq_rank = 4\n"
         "latent_norm = false",
         ""},
        {"mha_nope", "variant = \"mha-nope\"", "head_dim = 5"},
        {"mha_nope_grouped", "variant = \"mha-nope\"", "head_dim = 4\nkv_heads = 1"},
        {"shared_rope", "variant = \"mha-shared-rope\"\nnope_dim = 3\nrope_dim = 2\nv_dim = 5", ""},
        {"mla_rope", "variant = \"mla-rope\"\nkv_rank = 7\nv_dim = 5", "head_dim = 4"},
        {"mla_rope_q_rank", "variant = \"mla-rope\"\nkv_rank = 7\nq_rank = 5", ""},
        {"mla_nope", "variant = \"mla-nope\"\nkv_rank = 7\nv_dim = 4", "head_dim = 5"},
        {"mtla", "variant = \"mtla\"\nkv_rank = 9\nnope_dim = 3\nrope_dim = 2\nv_dim = 5", ""},
        {"mtla_stride_3",
         "variant = \"mtla\"\nkv_rank = 7\nnope_dim = 3\nrope_dim = 2\nv_dim = 5\nstride = 3", ""},
        {"decoupled_gain",
         "variant = \"mla-decoupled\"\nkv_rank = 7\nnope_dim = 3\nrope_dim = 2\nv_dim = 5\nq_rank = 4\n"
         "latent_gain = \"sqrt\"",
         ""},
        {"prerope_keys_gain",
         "variant = \"mla-prerope\"\nk_rank = 5\nv_rank = 3\nlatent_norm = true\nlatent_gain = \"sqrt\"", ""},
        {"mha_qk_norm", "variant = \"mha\"\nqk_norm = \"head\"", "head_dim = 4\nkv_heads = 1"},
        {"shared_rope_qk_norm",
         "variant = \"mha-shared-rope\"\nnope_dim = 5\nrope_dim = 4\nv_dim = 3\nqk_norm = \"head\"", ""},
        {"mla_rope_qk_norm", "variant = \"mla-rope\"\nkv_rank = 7\nv_dim = 5\nqk_norm = \"head\"",
         "head_dim = 4"},
        {"decoupled_qk_norm",
         "variant = \"mla-decoupled\"\nkv_rank = 7\nnope_dim = 5\nrope_dim = 4\nv_dim = 3\n"
         "qk_norm = \"head\"",
         ""},
        {"prerope_keys_qk_norm", "variant = \"mla-prerope\"\nk_rank = 5\nv_rank = 3\nqk_norm = \"head\"", ""},
        {"prerope_input_gain",
         "variant = \"mla-prerope\"\nprerope_site = \"input\"\nkv_rank = 7\nlatent_norm = true\n"
         "latent_gain = \"sqrt\"",
         ""},
    };
    return all;
}

std::vector<VariantCase> every_variant(std::vector<VariantCase> more) {
    std::vector<VariantCase> all;
    for (const std::string& name : variant_names()) {
        std::string label = name;
        std::replace(label.begin(), label.end(), '-', '_');
        all.push_back({label, fmt::format("variant = \"{}\"", name), ""});
    }
    all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    return all;
}

std::vector<double> values_of(Context& ctx, ConstTensor tensor) {
    const auto read = [&]<typename T>(T) {
        std::vector<T> host(static_cast<size_t>(tensor.numel()));
        download(ctx, as_tensor(std::span(host)), tensor);
        return host;
    };
    std::vector<double> values;
    if (tensor.dtype() == DType::kBF16) {
        for (const Bf16 value : read(Bf16{})) values.push_back(to_float(value));
    } else {
        for (const float value : read(0.0f)) values.push_back(value);
    }
    return values;
}

void set_values(Context& ctx, Tensor tensor, const std::vector<double>& values) {
    const std::vector<float> host(values.begin(), values.end());
    upload(ctx, tensor, as_tensor(std::span(host)));
}

ModelUnderTest::ModelUnderTest(const Config& config, Context& ctx, DType dtype, const BatchShape& shape)
    : ctx_(ctx), model_(config, dtype, shape), device_batch_(ctx, shape) {
    model_.allocate(ctx, true);
}

void ModelUnderTest::set_weights(const NamedValues& weights) {
    Parameters& params = model_.params();
    for (const Param& param : params.table().params())
        set_values(ctx_, params.master(param), weights.at(param.name));
    params.refresh_compute(ctx_);
}

NamedValues ModelUnderTest::weights() {
    NamedValues named;
    for (const Param& param : model_.params().table().params())
        named[param.name] = values_of(ctx_, model_.params().master(param));
    return named;
}

NamedValues ModelUnderTest::gradients() {
    NamedValues named;
    for (const Param& param : model_.params().table().params())
        named[param.name] = values_of(ctx_, model_.params().grad(param));
    return named;
}

NamedValues ModelUnderTest::random_weights(Random& random, DType dtype) const {
    NamedValues named;
    for (const Param& param : model_.params().table().params()) {
        const int64_t count = param.shape.numel();
        if (param.is_matrix())
            named[param.name] =
                random.normal(count, dtype, 1.0 / std::sqrt(static_cast<double>(param.shape[1])));
        else
            named[param.name] = random.normal(count, DType::kF32, 0.3, static_cast<double>(param.initial));
    }
    return named;
}

double ModelUnderTest::mean_loss() {
    double total = 0;
    for (const double loss : losses()) total += loss;
    return total / static_cast<double>(model_.shape().tokens());
}

double ModelUnderTest::forward(const TokenBatch& batch) {
    device_batch_.upload(ctx_, batch);
    model_.forward(ctx_, device_batch_.losses(), device_batch_.tokens(), device_batch_.targets());
    return mean_loss();
}

double ModelUnderTest::forward_backward(const TokenBatch& batch, Update update) {
    device_batch_.upload(ctx_, batch);
    model_.forward_backward(ctx_, device_batch_.losses(), device_batch_.tokens(), device_batch_.targets(),
                            1.0f / static_cast<float>(model_.shape().tokens()), update);
    return mean_loss();
}

std::vector<double> ModelUnderTest::logits() {
    const Shape shape = {model_.shape().tokens(), model_.config().model.vocab};
    const DType dtype = model_.params().compute_dtype();
    const Buffer buffer = allocate(ctx_, shape.numel() * size_of(dtype));
    const Tensor logits(buffer.data(), dtype, shape);
    model_.logits(ctx_, logits);
    return values_of(ctx_, logits);
}

TokenBatch random_batch(Random& random, const BatchShape& shape, int64_t vocab) {
    return {random.ids(shape.tokens(), vocab), random.ids(shape.tokens(), vocab)};
}

}  // namespace pastur::test
