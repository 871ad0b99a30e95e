// The table of configuration keys.
#include "engine/config/config_fields.h"

#include <type_traits>

namespace pastur {
namespace {

/// field_at<&Config::model, &ModelConfig::vocab> is a function Config& -> int64_t&.
template <auto Section, auto Key>
auto& field_at(Config& config) {
    return config.*Section.*Key;
}

template <ChoiceOfWords T>
size_t index_of(const T& value) {
    size_t index = 0;
    while (index + 1 < kChoices<T>.size() && !(kChoices<T>[index].value == value)) ++index;
    return index;
}

template <auto Section, auto Key>
Field make_field(const char* section, const char* key, const char* doc, const Range& range) {
    using Value = std::remove_cvref_t<decltype(std::declval<Config&>().*Section.*Key)>;
    if constexpr (ChoiceOfWords<Value>) {
        const ChoiceAccess access = {
            [](const Config& config) { return index_of(config.*Section.*Key); },
            [](Config& config, size_t index) { config.*Section.*Key = kChoices<Value>[index].value; }};
        return {section, key, access, doc, range, names_of<Value>()};
    } else if constexpr (std::is_same_v<Value, std::vector<Scope>> ||
                         std::is_same_v<Value, std::vector<NullKind>>) {
        using Item = typename Value::value_type;
        const ChoiceListAccess access = {
            [](const Config& config) {
                std::vector<size_t> indices;
                for (const Item& item : config.*Section.*Key) indices.push_back(index_of(item));
                return indices;
            },
            [](Config& config, const std::vector<size_t>& indices) {
                (config.*Section.*Key).clear();
                for (const size_t index : indices)
                    (config.*Section.*Key).push_back(kChoices<Item>[index].value);
            }};
        return {section, key, access, doc, range, names_of<Item>()};
    } else {
        return {section, key, field_at<Section, Key>, doc, range};
    }
}

template <auto Key>
Field model(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::model, Key>("model", key, doc, range);
}
template <auto Key>
Field attention(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::attention, Key>("attention", key, doc, range);
}
template <auto Key>
Field data(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::data, Key>("data", key, doc, range);
}
template <auto Key>
Field train(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::train, Key>("train", key, doc, range);
}
template <auto Key>
Field checkpoint(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::checkpoint, Key>("checkpoint", key, doc, range);
}
template <auto Key>
Field diagnostics(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::diagnostics, Key>("diagnostics", key, doc, range);
}
template <auto Key>
Field run(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::run, Key>("run", key, doc, range);
}
template <auto Key>
Field hw(const char* key, const char* doc, const Range& range = {}) {
    return make_field<&Config::hw, Key>("hw", key, doc, range);
}

Field preset() {
    Field field = model<&ModelConfig::preset>("preset", "sizes to start from");
    field.choices = preset_names();
    return field;
}

Field variant(std::vector<std::string> names) {
    const ChoiceAccess access = {
        [](const Config& config) { return static_cast<size_t>(config.attention.variant); },
        [](Config& config, size_t index) { config.attention.variant = static_cast<Variant>(index); }};
    return {"attention", "variant", access, "attention variant", {}, std::move(names)};
}

/// A choice that older recipes name otherwise.
Field renamed(Field field, const char* before, const char* now) {
    field.former.emplace_back(before, now);
    return field;
}

// Bounds far beyond any model, so products of a few sizes stay inside int64.
constexpr Range kWidth = {.low = 1, .high = 1 << 20};
constexpr Range kWidthOrAuto = {.low = 0, .high = 1 << 20};
constexpr Range kCount = {.low = 1, .high = 1 << 30};
constexpr Range kCountOrZero = {.low = 0, .high = 1 << 30};
constexpr Range kPositive = {.low = 0, .high = kLargest, .above = true};
constexpr Range kNonNegative = {.low = 0, .high = kLargest};
constexpr Range kFraction = {.low = 0, .high = 1};
constexpr Range kBelowOne = {.low = 0, .high = 1, .below = true};
constexpr Range kTracyWidom = {.low = 0.001, .high = 0.9999};

constexpr Range from_to(double low, double high) {
    return {.low = low, .high = high};
}

using M = ModelConfig;
using A = AttentionConfig;
using D = DataConfig;
using T = TrainConfig;
using C = CheckpointConfig;
using G = DiagnosticsConfig;
using R = RunConfig;
using H = HardwareConfig;

}  // namespace

// clang-format off
std::vector<Field> make_config_fields(std::vector<std::string> variants) {
    return {
        preset(),
        model<&M::vocab>("vocab", "tokens the model knows", from_to(2, 1 << 30)),
        model<&M::d_model>("d_model", "width of the residual stream", kWidth),
        model<&M::layers>("layers", "transformer blocks", from_to(1, 1 << 16)),
        model<&M::heads>("heads", "attention heads per layer", from_to(1, 1 << 16)),
        model<&M::kv_heads>("kv_heads", "key/value heads (0: heads)", from_to(0, 1 << 16)),
        model<&M::head_dim>("head_dim", "width of a head (0: d_model / heads)", kWidthOrAuto),
        model<&M::ffn>("ffn", "hidden width of the SwiGLU", kWidth),
        model<&M::rope_theta>("rope_theta", "base of the rotary angles", kPositive),
        model<&M::norm_eps>("norm_eps", "added to the mean square in RMS norms", kPositive),
        model<&M::tie_embeddings>("tie_embeddings", "the LM head reads the embedding's rows"),

        variant(std::move(variants)),
        attention<&A::kv_rank>("kv_rank", "width of the joint latent (0: d_model / 2)", kWidthOrAuto),
        attention<&A::k_rank>("k_rank", "width of the key latent (0: d_model / 4)", kWidthOrAuto),
        attention<&A::v_rank>("v_rank", "width of the value latent (0: d_model / 4)", kWidthOrAuto),
        attention<&A::nope_dim>("nope_dim", "content width of a head (0: head_dim / 2)", kWidthOrAuto),
        attention<&A::rope_dim>("rope_dim", "width of the shared rotary key (0: head_dim / 2)", kWidthOrAuto),
        attention<&A::v_dim>("v_dim", "value width of a head (0: head_dim)", kWidthOrAuto),
        attention<&A::q_rank>("q_rank", "width of the query latent (0: no compression)", kWidthOrAuto),
        attention<&A::latent_norm>("latent_norm", "RMS norm on the latents (default: true, in mla-prerope false)"),
        attention<&A::prerope_site>("prerope_site", "what mla-prerope rotates"),
        attention<&A::latent_gain>("latent_gain", "factor of a normalised latent (sqrt: the root of d_model / rank)"),
        attention<&A::qk_norm>("qk_norm", "RMS norm with gain over each head's queries and keys, before the rotation"),
        attention<&A::stride>("stride", "mtla: adjacent latents that are merged into one (0: 2)", from_to(0, 1 << 16)),

        data<&D::dir>("dir", "folder made by `pastur data prepare`"),
        data<&D::train>("train", "glob of training shards (empty: <dir>/train_*.bin)"),
        data<&D::val>("val", "glob of validation shards (empty: <dir>/val_*.bin)"),
        data<&D::mixture>("mixture", "token folders and their weights, \"DIR=WEIGHT, DIR=WEIGHT\" (empty: data.dir alone)"),
        data<&D::val_sets>("val_sets", "further validation sets by name, \"NAME=GLOB, NAME=GLOB\""),
        data<&D::packing>("packing", "training sequences: a stream across documents, whole documents packed, or one document truncated or padded"),
        data<&D::mask_documents>("mask_documents", "attention sees no token of another document in its sequence"),
        data<&D::seq_len>("seq_len", "tokens per sequence", from_to(1, 1 << 24)),

        train<&T::steps>("steps", "optimizer steps", kCount),
        train<&T::global_batch>("global_batch", "sequences per step, over all ranks", from_to(1, 1 << 24)),
        train<&T::micro_batch>("micro_batch", "sequences per forward pass (0: the largest divisor of a rank's share of global_batch with at most 65536 tokens, 32768 for d_model above 1024; with deterministic_comm: one that every number of ranks up to 8 can use)", from_to(0, 1 << 24)),
        train<&T::lr>("lr", "peak learning rate", kPositive),
        train<&T::warmup_steps>("warmup_steps", "steps of linear warm-up", kCountOrZero),
        train<&T::schedule>("schedule", "learning rate after the warm-up"),
        train<&T::final_lr_fraction>("final_lr_fraction", "learning rate of the last step, as a fraction of lr (cosine, wsd)", kFraction),
        train<&T::optimizer>("optimizer", "of the matrices of the layers; AdamW updates the rest"),
        train<&T::beta1>("beta1", "AdamW: decay of the mean gradient", kBelowOne),
        train<&T::beta2>("beta2", "AdamW: decay of the mean squared gradient", kBelowOne),
        train<&T::eps>("eps", "AdamW: added to the root", kPositive),
        train<&T::weight_decay>("weight_decay", "AdamW: decoupled decay of matrices", kNonNegative),
        train<&T::grad_clip>("grad_clip", "largest global gradient norm (0: no clipping)", kNonNegative),
        train<&T::qk_clip>("qk_clip", "largest attention logit, beyond which a head's query and key weights are scaled down (0: none)", kNonNegative),
        train<&T::seed>("seed", "seed of initial weights and sample order", from_to(0, 0x1p62)),
        train<&T::init_from>("init_from", "checkpoint or Hugging Face folder whose weights a new run starts from (empty: random weights)"),
        train<&T::precision>("precision", "of GEMMs (auto: bf16 on CUDA, fp32 on the CPU; fp8: as auto, with the inputs of wide GEMMs in the layers quantised to e4m3)"),
        train<&T::weights>("weights", "format of the master weights (bf16: rounded stochastically)"),
        train<&T::moments>("moments", "format of AdamW's moments (bf16: rounded stochastically)"),
        train<&T::fp8_min_outputs>("fp8_min_outputs", "fp8: the narrowest output for which an input is quantised", from_to(1, 1 << 24)),
        train<&T::fp8_min_gradient_side>("fp8_min_gradient_side", "fp8: the shortest side of a weight gradient for which both inputs are quantised", from_to(1, 1 << 24)),
        renamed(train<&T::recompute>("recompute", "activations that backward recomputes (none; norms: outputs of norms and SwiGLU; ffn: also SwiGLU's inputs; block: all but a layer's input; auto: the first of these that fits into memory)"), "cheap", "norms"),
        train<&T::val_every>("val_every", "steps between validations (0: only at the end)", kCountOrZero),
        train<&T::val_tokens>("val_tokens", "most tokens that a validation reads", from_to(1, 0x1p40)),
        train<&T::nonfinite>("nonfinite", "on a non-finite loss or gradient"),
        train<&T::zero>("zero", "1: optimizer state is divided over the ranks (ZeRO-1); 0: each rank has all of it", from_to(0, 1)),
        train<&T::deterministic_comm>("deterministic_comm", "the same bits on any number of ranks; communicates every micro-batch"),
        train<&T::comm_dtype>("comm_dtype", "format of the gradients that ranks send each other (bf16: half the bytes, summed in fp32)"),
        train<&T::comm_timeout_s>("comm_timeout_s", "seconds of silence after which a rank counts as lost; must exceed the time to write a checkpoint", kPositive),
        train<&T::cuda_graph>("cuda_graph", "on CUDA, replay the kernels of a micro-batch, unless ranks communicate during it, and of a pass of generation from a graph"),

        checkpoint<&C::every>("every", "steps between checkpoints (0: only at the end)", kCountOrZero),
        checkpoint<&C::keep>("keep", "newest checkpoints kept (0: all)", kCountOrZero),

        diagnostics<&G::every>("every", "steps between spectra (0: no diagnostics)", kCountOrZero),
        diagnostics<&G::early>("early", "further steps at which spectra are measured", kCountOrZero),
        diagnostics<&G::scopes>("scopes", "what is measured (empty: head, layer, logits; with a shared rotary key also content, rope)"),
        diagnostics<&G::nulls>("nulls", "what spectra are compared with"),
        diagnostics<&G::mp_variance>("mp_variance", "how the mp null estimates the variance of a matrix's entries"),
        diagnostics<&G::spectra>("spectra", "write every eigenvalue (spectra/step_*.npz)"),
        diagnostics<&G::tw_quantile>("tw_quantile", "Tracy-Widom quantile at which a null's edge is drawn beyond its bulk", kTracyWidom),
        diagnostics<&G::spike_ratio>("spike_ratio", "spike: lowest threshold of the largest eigenvalue over the edge (then 2, 10)", kPositive),
        diagnostics<&G::collapse_fraction>("collapse_fraction", "collapse: highest threshold of the stable rank over its value at step 0 (then 0.25, 0.1)", kFraction),
        diagnostics<&G::positions>("positions", "scope positions: pairs of a query's and a key's position, i0, j0, i1, j1, ... (empty: five pairs of the first, middle and last one)", kCountOrZero),
        diagnostics<&G::permutations>("permutations", "draws averaged by the nulls permuted and profile", from_to(1, 1024)),
        diagnostics<&G::probe_sequences>("probe_sequences", "validation sequences that the scopes logits and latents read", from_to(1, 4096)),
        diagnostics<&G::solver>("solver", "eigensolver on CUDA (auto: own kernels up to 1024 rows, cuSOLVER beyond)"),

        run<&R::name>("name", "name of the run (empty: <preset>-<variant>)"),
        run<&R::dir>("dir", "run folder (empty: runs/<name>)"),
        run<&R::notes>("notes", "what the run is for, shown on its page"),
        run<&R::hook>("hook", "shell command run after each checkpoint, with PASTUR_CHECKPOINT, PASTUR_RUN and PASTUR_STEP set"),
        run<&R::log_every>("log_every", "steps between log lines", kCount),
        run<&R::log_events>("log_events", "print every spike and collapse, not only one line per measurement"),
        run<&R::tensorboard>("tensorboard", "also write TensorBoard events"),

        hw<&H::peak_tflops>("peak_tflops", "TFLOP/s of a device, the denominator of MFU (0: measured with a large GEMM at the start on a GPU; unknown on the CPU)", kNonNegative),
    };
}
// clang-format on

const Field* find_field(std::span<const Field> fields, std::string_view section, std::string_view key) {
    for (const Field& field : fields)
        if (field.section == section && field.key == key) return &field;
    return nullptr;
}

}  // namespace pastur
