// The table of configuration keys.
#include "engine/config/config_fields.h"

#include <fmt/format.h>

#include "engine/config/recompute_level.h"

namespace pastur {
namespace {

std::vector<std::string> recompute_values() {
    std::vector<std::string> choices = recompute_names();
    choices.insert(choices.begin(), kRecomputeAuto);
    return choices;
}

/// field_at<&Config::model, &ModelConfig::vocab> is a function Config& -> int64_t&.
template <auto Section, auto Key>
auto& field_at(Config& config) {
    return config.*Section.*Key;
}
template <auto Key>
constexpr auto kModel = field_at<&Config::model, Key>;
template <auto Key>
constexpr auto kAttention = field_at<&Config::attention, Key>;
template <auto Key>
constexpr auto kData = field_at<&Config::data, Key>;
template <auto Key>
constexpr auto kTrain = field_at<&Config::train, Key>;
template <auto Key>
constexpr auto kCheckpoint = field_at<&Config::checkpoint, Key>;
template <auto Key>
constexpr auto kDiagnostics = field_at<&Config::diagnostics, Key>;
template <auto Key>
constexpr auto kRun = field_at<&Config::run, Key>;
template <auto Key>
constexpr auto kHardware = field_at<&Config::hw, Key>;

// Bounds far beyond any model, so that products of a few sizes stay inside int64.
constexpr Range kWidth = {.low = 1, .high = 1 << 20};
constexpr Range kWidthOrAuto = {.low = 0, .high = 1 << 20};
constexpr Range kCount = {.low = 1, .high = 1 << 30};
constexpr Range kCountOrZero = {.low = 0, .high = 1 << 30};
constexpr Range kPositive = {.low = 0, .high = kLargest, .above = true};
constexpr Range kNonNegative = {.low = 0, .high = kLargest};
constexpr Range kFraction = {.low = 0, .high = 1};
constexpr Range kBelowOne = {.low = 0, .high = 1, .below = true};

constexpr Range kTracyWidom = {.low = 0.001, .high = 0.9999};

constexpr VariantSet kPrerope = VariantSet(kPreropeKeys | kPreropeInput);

std::vector<Field> make_model_fields() {
    using M = ModelConfig;
    return {
        {"model", "preset", kModel<&M::preset>, "sizes to start from", {}, preset_names()},
        {"model", "vocab", kModel<&M::vocab>, "tokens the model knows", {.low = 2, .high = 1 << 30}},
        {"model", "d_model", kModel<&M::d_model>, "width of the residual stream", kWidth},
        {"model", "layers", kModel<&M::layers>, "transformer blocks", {.low = 1, .high = 1 << 16}},
        {"model", "heads", kModel<&M::heads>, "attention heads a layer", {.low = 1, .high = 1 << 16}},
        {"model",
         "kv_heads",
         kModel<&M::kv_heads>,
         "key/value heads (0: heads)",
         {.low = 0, .high = 1 << 16},
         {},
         kMha},
        {"model", "head_dim", kModel<&M::head_dim>, "width of a head (0: d_model / heads)", kWidthOrAuto},
        {"model", "ffn", kModel<&M::ffn>, "hidden width of the SwiGLU", kWidth},
        {"model", "rope_theta", kModel<&M::rope_theta>, "base of the rotary angles", kPositive},
        {"model", "norm_eps", kModel<&M::norm_eps>, "added to the mean square in RMS norms", kPositive},
        {"model", "tie_embeddings", kModel<&M::tie_embeddings>, "the LM head reads the embedding's rows"},
    };
}

std::vector<Field> make_attention_fields() {
    using A = AttentionConfig;
    const std::vector<std::string> variants = {"mha", "mla-prerope", "mla-decoupled"};
    const VariantSet joint = VariantSet(kDecoupled | kPreropeInput);
    return {
        {"attention", "variant", kAttention<&A::variant>, "attention variant", {}, variants},
        {"attention",
         "kv_rank",
         kAttention<&A::kv_rank>,
         "width of the joint latent (0: d_model / 2)",
         kWidthOrAuto,
         {},
         joint},
        {"attention",
         "k_rank",
         kAttention<&A::k_rank>,
         "width of the key latent (0: d_model / 4)",
         kWidthOrAuto,
         {},
         kPreropeKeys},
        {"attention",
         "v_rank",
         kAttention<&A::v_rank>,
         "width of the value latent (0: d_model / 4)",
         kWidthOrAuto,
         {},
         kPreropeKeys},
        {"attention",
         "nope_dim",
         kAttention<&A::nope_dim>,
         "content width of a head (0: head_dim / 2)",
         kWidthOrAuto,
         {},
         kDecoupled},
        {"attention",
         "rope_dim",
         kAttention<&A::rope_dim>,
         "width of the shared rotary key (0: head_dim / 2)",
         kWidthOrAuto,
         {},
         kDecoupled},
        {"attention",
         "v_dim",
         kAttention<&A::v_dim>,
         "value width of a head (0: head_dim)",
         kWidthOrAuto,
         {},
         kDecoupled},
        {"attention",
         "q_rank",
         kAttention<&A::q_rank>,
         "width of the query latent (0: no compression)",
         kWidthOrAuto,
         {},
         kDecoupled},
        {"attention",
         "latent_norm",
         kAttention<&A::latent_norm>,
         "RMS norm on the latents (mla-decoupled always has it)",
         {},
         {},
         kPrerope},
        {"attention",
         "prerope_site",
         kAttention<&A::prerope_site>,
         "what mla-prerope rotates",
         {},
         {"keys", "input"},
         kPrerope},
    };
}

std::vector<Field> make_data_fields() {
    using D = DataConfig;
    return {
        {"data", "dir", kData<&D::dir>, "folder made by `pastur data prepare`"},
        {"data", "train", kData<&D::train>, "glob of training shards (empty: <dir>/train_*.bin)"},
        {"data", "val", kData<&D::val>, "glob of validation shards (empty: <dir>/val_*.bin)"},
        {"data", "seq_len", kData<&D::seq_len>, "tokens a sequence", {.low = 1, .high = 1 << 24}},
    };
}

std::vector<Field> make_train_fields() {
    using T = TrainConfig;
    return {
        {"train", "steps", kTrain<&T::steps>, "optimizer steps", kCount},
        {"train",
         "global_batch",
         kTrain<&T::global_batch>,
         "sequences a step, over all ranks",
         {.low = 1, .high = 1 << 24}},
        {"train",
         "micro_batch",
         kTrain<&T::micro_batch>,
         "sequences a forward pass (0: a divisor of global_batch, at most 65536 tokens, 32768 for d_model "
         "above 1024)",
         {.low = 0, .high = 1 << 24}},
        {"train", "lr", kTrain<&T::lr>, "peak learning rate", kPositive},
        {"train", "warmup_steps", kTrain<&T::warmup_steps>, "steps of linear warm-up", kCountOrZero},
        {"train",
         "schedule",
         kTrain<&T::schedule>,
         "learning rate after the warm-up",
         {},
         {"cosine", "constant", "wsd"}},
        {"train", "final_lr_fraction", kTrain<&T::final_lr_fraction>, "of lr, at the last step", kFraction},
        {"train", "beta1", kTrain<&T::beta1>, "AdamW: decay of the mean gradient", kBelowOne},
        {"train", "beta2", kTrain<&T::beta2>, "AdamW: decay of the mean squared gradient", kBelowOne},
        {"train", "eps", kTrain<&T::eps>, "AdamW: added to the root", kPositive},
        {"train", "weight_decay", kTrain<&T::weight_decay>, "AdamW: decoupled decay of matrices",
         kNonNegative},
        {"train", "grad_clip", kTrain<&T::grad_clip>, "largest global gradient norm (0: none)", kNonNegative},
        {"train",
         "seed",
         kTrain<&T::seed>,
         "of initial weights and sample order",
         {.low = 0, .high = 0x1p62}},
        {"train",
         "precision",
         kTrain<&T::precision>,
         "of matrix products (auto: bf16 on CUDA, fp32 on CPU; fp8: as auto, but layers round what wide "
         "products multiply to e4m3)",
         {},
         {"auto", "bf16", "fp32", "fp8"}},
        {"train",
         "fp8_min_outputs",
         kTrain<&T::fp8_min_outputs>,
         "fp8: the narrowest output that pays for rounding an input",
         {.low = 1, .high = 1 << 24}},
        {"train",
         "fp8_min_gradient_side",
         kTrain<&T::fp8_min_gradient_side>,
         "fp8: the shortest side of a matrix whose gradient pays for rounding both inputs",
         {.low = 1, .high = 1 << 24}},
        {"train",
         "recompute",
         kTrain<&T::recompute>,
         "what backward computes again instead of keeping it (none; norms: outputs of norms and SwiGLU; ffn: "
         "also its inputs; block: all but a layer's input; auto: the first of these to fit into memory)",
         {},
         recompute_values(),
         kEveryVariant,
         {{"cheap", "norms"}}},
        {"train", "val_every", kTrain<&T::val_every>, "steps between validations (0: only at the end)",
         kCountOrZero},
        {"train",
         "val_tokens",
         kTrain<&T::val_tokens>,
         "tokens a validation pass reads, at most",
         {.low = 1, .high = 1LL << 40}},
        {"train",
         "nonfinite",
         kTrain<&T::nonfinite>,
         "on a non-finite loss or gradient",
         {},
         {"abort", "skip"}},
        {"train",
         "zero",
         kTrain<&T::zero>,
         "1: the optimizer's state is divided over the ranks (ZeRO-1); 0: each has all",
         {.low = 0, .high = 1}},
        {"train", "deterministic_comm", kTrain<&T::deterministic_comm>,
         "the same bits on any number of ranks; communicates every micro-batch"},
        {"train", "comm_timeout_s", kTrain<&T::comm_timeout_s>,
         "seconds after which a rank that others wait for is lost; longer than a checkpoint takes to write",
         kPositive},
        {"train", "cuda_graph", kTrain<&T::cuda_graph>,
         "on CUDA, replay a micro-batch's kernels from a graph where ranks say nothing during it"},
    };
}

std::vector<Field> make_checkpoint_fields() {
    using C = CheckpointConfig;
    return {
        {"checkpoint", "every", kCheckpoint<&C::every>, "steps between checkpoints (0: only at the end)",
         kCountOrZero},
        {"checkpoint", "keep", kCheckpoint<&C::keep>, "newest checkpoints kept (0: all)", kCountOrZero},
    };
}

std::vector<Field> make_diagnostics_fields() {
    using D = DiagnosticsConfig;
    return {
        {"diagnostics", "every", kDiagnostics<&D::every>, "steps between spectra (0: no diagnostics)",
         kCountOrZero},
        {"diagnostics", "early", kDiagnostics<&D::early>, "steps measured besides those", kCountOrZero},
        {"diagnostics",
         "scopes",
         kDiagnostics<&D::scopes>,
         "what is decomposed (empty: head, layer; mla-decoupled content, rope too)",
         {},
         {"head", "layer", "content", "rope", "literal", "weights"}},
        {"diagnostics",
         "nulls",
         kDiagnostics<&D::nulls>,
         "what spectra are compared with",
         {},
         {"product", "mp", "permuted"}},
        {"diagnostics",
         "mp_variance",
         kDiagnostics<&D::mp_variance>,
         "how the mp null takes its variance from a matrix (VarianceEstimate)",
         {},
         {"entries", "median", "fit"}},
        {"diagnostics", "spectra", kDiagnostics<&D::spectra>, "write every eigenvalue (spectra/step_*.npz)"},
        {"diagnostics", "tw_quantile", kDiagnostics<&D::tw_quantile>,
         "of Tracy-Widom: a null's edge beyond its bulk", kTracyWidom},
        {"diagnostics", "spike_ratio", kDiagnostics<&D::spike_ratio>,
         "event: largest eigenvalue over the edge, while it grows", kPositive},
        {"diagnostics", "collapse_fraction", kDiagnostics<&D::collapse_fraction>,
         "event: stable rank over its first value", kFraction},
        {"diagnostics",
         "permutations",
         kDiagnostics<&D::permutations>,
         "shuffles averaged by the permuted null",
         {.low = 1, .high = 1024}},
    };
}

std::vector<Field> make_run_fields() {
    using R = RunConfig;
    return {
        {"run", "name", kRun<&R::name>, "of the run (empty: <preset>-<variant>)"},
        {"run", "dir", kRun<&R::dir>, "run folder (empty: runs/<name>)"},
        {"run", "log_every", kRun<&R::log_every>, "steps between log lines", kCount},
        {"run", "tensorboard", kRun<&R::tensorboard>, "write TensorBoard's events too"},
    };
}

std::vector<Field> make_hardware_fields() {
    return {
        {"hw", "peak_tflops", kHardware<&HardwareConfig::peak_tflops>,
         "of a device, for MFU (0: a large product's, measured at the start on a GPU; unknown on the CPU)",
         kNonNegative},
    };
}

std::vector<Field> make_fields() {
    std::vector<Field> fields;
    for (auto make :
         {make_model_fields, make_attention_fields, make_data_fields, make_train_fields,
          make_checkpoint_fields, make_diagnostics_fields, make_run_fields, make_hardware_fields}) {
        const std::vector<Field> part = make();
        fields.insert(fields.end(), part.begin(), part.end());
    }
    return fields;
}

}  // namespace

std::span<const Field> config_fields() {
    static const std::vector<Field> fields = make_fields();
    return fields;
}

const Field* find_field(std::string_view section, std::string_view key) {
    for (const Field& field : config_fields())
        if (field.section == section && field.key == key) return &field;
    return nullptr;
}

VariantSet variant_of(const Config& config) {
    if (config.attention.variant == "mla-decoupled") return kDecoupled;
    if (config.attention.variant != "mla-prerope") return kMha;
    return config.attention.prerope_site == "input" ? kPreropeInput : kPreropeKeys;
}

std::string describe(VariantSet variants) {
    std::vector<std::string> names;
    if (variants & kMha) names.emplace_back("variant \"mha\"");
    if ((variants & kPrerope) == kPrerope) {
        names.emplace_back("variant \"mla-prerope\"");
    } else {
        if (variants & kPreropeKeys)
            names.emplace_back("variant \"mla-prerope\" with prerope_site = \"keys\"");
        if (variants & kPreropeInput)
            names.emplace_back("variant \"mla-prerope\" with prerope_site = \"input\"");
    }
    if (variants & kDecoupled) names.emplace_back("variant \"mla-decoupled\"");
    return fmt::format("{}", fmt::join(names, " or "));
}

}  // namespace pastur
