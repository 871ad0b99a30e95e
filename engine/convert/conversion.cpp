#include "engine/convert/conversion.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>

#include "data/parallel.h"
#include "engine/convert/layer_tensors.h"
#include "engine/model/recipe.h"

namespace pastur::convert {
namespace {

/// Of the inputs' mean square: what cholesky() adds to every direction.
constexpr double kRidge = 1e-7;

std::vector<int64_t> valid_rope_dims(int64_t head_dim) {
    std::vector<int64_t> dims;
    for (int64_t dim = 2; dim <= head_dim; dim += 2)
        if (head_dim % dim == 0) dims.push_back(dim);
    return dims;
}

/// Of D / d_R = step: a group holds whole steps, or a step whole groups.
std::vector<int64_t> valid_folds(int64_t frequencies, int64_t step) {
    std::vector<int64_t> folds;
    for (int64_t fold = 1; fold <= frequencies; ++fold)
        if (frequencies % fold == 0 && (fold % step == 0 || step % fold == 0)) folds.push_back(fold);
    return folds;
}

void check_one_of(const char* option, int64_t value, const std::vector<int64_t>& valid,
                  const std::string& why) {
    if (std::find(valid.begin(), valid.end(), value) == valid.end())
        fail(ExitCode::kUsage, "{} {}: expected {}, {}", option, value, fmt::join(valid, ", "), why);
}

void check_rank(const char* option, int64_t rank, int64_t most, const std::string& why) {
    if (rank < 1 || rank > most)
        fail(ExitCode::kUsage, "{} {}: expected 1 to {}, {}", option, rank, most, why);
}

void check_source(const Config& source) {
    if (source.attention.variant != variant_named("mha"))
        fail(ExitCode::kUsage,
             "--to mla-decoupled: expected a model of attention.variant \"mha\": this one is \"{}\"",
             variant_of(source).name);
    if (source.attention.qk_norm != QkNorm::kNone)
        fail(
            ExitCode::kUsage,
            "--to mla-decoupled: expected attention.qk_norm = \"none\": a norm of each head's key is not linear, so "
            "keys of several heads cannot be rotated into one another");
}

Config decoupled_config(const Config& source, const ConvertOptions& options) {
    AttentionConfig a{.variant = variant_named("mla-decoupled")};
    a.kv_rank = options.kv_rank;
    a.nope_dim = a.v_dim = source.model.head_dim;
    a.rope_dim = options.rope_dim;
    a.q_rank = options.q_rank;
    a.latent_norm = false;
    return with_attention(source, a);
}

}  // namespace

WeightSet ConvertedModel::weights(const ReadTensor& source) const {
    return {config, [this, source](const std::string& name) {
                const auto found = tensors.find(name);
                return found != tensors.end() ? found->second : source(name);
            }};
}

Config with_attention(Config config, const AttentionConfig& attention) {
    config.attention = attention;
    config.model.kv_heads = 0;          // all heads have keys of their own
    config.diagnostics.scopes.clear();  // those of the variant
    return parse_config(to_toml(config), "the converted model", {});
}

HeadSizes head_sizes(const Config& config) {
    const ModelConfig& m = config.model;
    return {m.d_model, m.heads, m.kv_heads, m.head_dim};
}

int64_t full_rank(const Config& source, int64_t rope_dim) {
    const ModelConfig& m = source.model;
    return std::min(m.d_model, 2 * m.kv_heads * m.head_dim - rope_dim);
}

ConvertOptions resolve(ConvertOptions options, const Config& source) {
    check_source(source);
    const ModelConfig& m = source.model;
    if (options.rope_dim == 0) options.rope_dim = m.head_dim;
    check_one_of("--rope-dim", options.rope_dim, valid_rope_dims(m.head_dim),
                 fmt::format("an even divisor of the heads' width {}", m.head_dim));
    const int64_t step = m.head_dim / options.rope_dim;
    if (options.fold == 0) options.fold = step;
    check_one_of(
        "--fold", options.fold, valid_folds(m.head_dim / 2, step),
        fmt::format("which cut the {} frequencies of a head into groups with the same number of the {} that "
                    "keep their rotation, or one in several groups",
                    m.head_dim / 2, options.rope_dim / 2));
    const int64_t most = full_rank(source, options.rope_dim);
    if (options.kv_rank == 0) options.kv_rank = most;
    check_rank("--kv-rank", options.kv_rank, most,
               "the lesser of the model's width and that of the keys and values without the rotary key");
    if (options.q_rank != 0)
        check_rank("--q-rank", options.q_rank, std::min(m.d_model, m.heads * m.head_dim),
                   "the lesser of the model's width and that of its queries");
    return options;
}

ConvertedModel convert_to_decoupled(const Config& source, const ReadTensor& read,
                                    const std::vector<Matrix>& moments, const ConvertOptions& options) {
    const HeadSizes sizes = head_sizes(source);
    ConvertedModel model{decoupled_config(source, options), {}, {}};
    model.layers.resize(moments.size());
    std::mutex mutex;
    parallel_for(std::ssize(moments), hardware_threads(), [&](int64_t layer) {
        const std::string prefix = attention_prefix(layer);
        const auto weight = [&](const char* name, int64_t rows, int64_t columns) {
            return to_matrix(read(prefix + name), rows, columns);
        };
        const int64_t keys = sizes.kv_heads * sizes.head_dim;
        const SourceLayer from{weight("q_proj.weight", sizes.heads * sizes.head_dim, sizes.width),
                               weight("k_proj.weight", keys, sizes.width),
                               weight("v_proj.weight", keys, sizes.width)};
        const Matrix& moment = moments[static_cast<size_t>(layer)];
        LayerTensors tensors = decoupled_layer(from, moment, cholesky(moment, kRidge), sizes, options);
        const std::lock_guard lock(mutex);
        model.layers[static_cast<size_t>(layer)] = tensors.report;
        for (auto& [name, values] : tensors.tensors) model.tensors.emplace(prefix + name, to_floats(values));
    });
    return model;
}

namespace {

/// A latent of every layer, by the names of its tensors.
struct LatentNames {
    const char *down, *up, *norm;
    int64_t rank;
    double LayerReport::*spread;
};

std::vector<Matrix> downs_of(const ConvertedModel& model, const LatentNames& names) {
    std::vector<Matrix> downs;
    const int64_t width = model.config.model.d_model;
    for (int64_t layer = 0; layer < model.config.model.layers; ++layer) {
        const std::vector<float>& values = model.tensors.at(attention_prefix(layer) + names.down);
        downs.push_back(to_matrix({values.begin(), values.begin() + names.rank * width}, names.rank, width));
    }
    return downs;
}

/// Changes the basis of a layer's latent: what the up-projection makes of it stays.
void change_basis(ConvertedModel& model, int64_t layer, const LatentNames& names, const LatentBasis& basis) {
    std::vector<float>& down = model.tensors.at(attention_prefix(layer) + names.down);
    std::transform(basis.down.values.begin(), basis.down.values.end(), down.begin(),
                   [](double value) { return static_cast<float>(value); });
    std::vector<float>& up = model.tensors.at(attention_prefix(layer) + names.up);
    up = to_floats(dense::multiply(to_matrix(up, std::ssize(up) / names.rank, names.rank), basis.inverse));
}

/// Multiplies component i of the latent by scales[i], and divides what the up-projection reads by it.
void scale_latent(ConvertedModel& model, int64_t layer, const LatentNames& names,
                  const std::vector<double>& scales) {
    const auto rank = static_cast<size_t>(names.rank),
               width = static_cast<size_t>(model.config.model.d_model);
    std::vector<float>& down = model.tensors.at(attention_prefix(layer) + names.down);
    for (size_t i = 0; i < rank * width; ++i) down[i] *= static_cast<float>(scales[i / width]);
    std::vector<float>& up = model.tensors.at(attention_prefix(layer) + names.up);
    for (size_t i = 0; i < up.size(); ++i) up[i] /= static_cast<float>(scales[i % rank]);
}

void normalise_latent(ConvertedModel& model, const LatentNames& names, ForwardModel& forward,
                      const std::vector<Matrix>& moments, const ReadTensor& source,
                      const TokenSequences& text) {
    const std::vector<Matrix> downs = downs_of(model, names);
    parallel_for(std::ssize(downs), hardware_threads(), [&](int64_t layer) {
        const std::vector<float> gain = source(fmt::format("model.layers.{}.input_layernorm.weight", layer));
        const auto at = static_cast<size_t>(layer);
        change_basis(model, layer, names,
                     orthonormal_basis(downs[at], {gain.begin(), gain.end()}, moments[at]));
    });
    const std::vector<LatentSums> raw = latent_sums(forward, downs_of(model, names), text);
    for (size_t layer = 0; layer < raw.size(); ++layer)
        scale_latent(model, static_cast<int64_t>(layer), names, levelling_scales(raw[layer].moments));
    const std::vector<LatentSums> levelled = latent_sums(forward, downs_of(model, names), text);
    for (size_t layer = 0; layer < levelled.size(); ++layer) {
        const LatentSums& sum = levelled[layer];
        const double mean = sum.rms / static_cast<double>(sum.moments.tokens);
        const double variance = sum.rms_squares / static_cast<double>(sum.moments.tokens) - mean * mean;
        model.layers[layer].*names.spread = std::sqrt(std::max(variance, 0.0)) / mean;
        model.tensors[attention_prefix(static_cast<int64_t>(layer)) + names.norm] =
            std::vector<float>(static_cast<size_t>(names.rank), static_cast<float>(mean));
    }
}

}  // namespace

void normalise_latents(Context& ctx, ConvertedModel& model, const ReadTensor& source,
                       const std::vector<Matrix>& moments, const TokenSequences& text) {
    ForwardModel forward(ctx, model.weights(source), text.seq_len);
    const AttentionConfig& a = model.config.attention;
    normalise_latent(model,
                     {"kv_a_proj_with_mqa.weight", "kv_b_proj.weight", "kv_a_layernorm.weight", a.kv_rank,
                      &LayerReport::kv_spread},
                     forward, moments, source, text);
    if (a.q_rank > 0)
        normalise_latent(
            model,
            {"q_a_proj.weight", "q_b_proj.weight", "q_a_layernorm.weight", a.q_rank, &LayerReport::q_spread},
            forward, moments, source, text);
    model.config.attention.latent_norm = true;
}

}  // namespace pastur::convert
