// Presets, derived fields, and what must hold between keys.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "data/shard.h"
#include "engine/config/config_fields.h"
#include "engine/config/scopes.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

struct Preset {
    const char* name;
    int64_t vocab, d_model, ffn, layers, heads;
};
constexpr Preset kPresets[] = {
    {"nano", 2048, 128, 344, 4, 4},      {"30m", 32000, 512, 1376, 9, 8},
    {"60m", 32000, 512, 1376, 8, 8},     {"130m", 32000, 768, 2048, 12, 12},
    {"350m", 32000, 1024, 2736, 24, 16}, {"1b", 32000, 2048, 5461, 24, 32},
    {"7b", 32000, 4096, 11008, 32, 32},
};

const Preset& preset_named(const std::string& name) {
    return *std::find_if(std::begin(kPresets), std::end(kPresets),
                         [&](const Preset& p) { return name == p.name; });
}

size_t index_of(std::string_view section, std::string_view key) {
    const Field* field = find_field(section, key);
    PASTUR_CHECK(field, "no configuration key {}.{}", section, key);
    return static_cast<size_t>(field - config_fields().data());
}

/// Messages about a Config that know where every value came from.
class Explainer {
  public:
    Explainer(const Config& config, const Origins& origins) : config_(config), origins_(origins) {}

    const Origin& origin(std::string_view section, std::string_view key) const {
        return origins_[index_of(section, key)];
    }
    /// `heads = 5 (recipe.toml:3)`, `d_model = 128 (preset nano)`, `kv_rank = 64 (default)`.
    std::string value(std::string_view section, std::string_view key) const {
        const Origin& from = origin(section, key);
        const std::string place = from.source == Origin::Source::kPreset    ? "preset " + config_.model.preset
                                  : from.source == Origin::Source::kDefault ? "default"
                                                                            : from.place;
        return fmt::format("{} = {} ({})", key, value_text(*find_field(section, key), config_), place);
    }

  private:
    const Config& config_;
    const Origins& origins_;
};

bool is_set(const Origin& origin) {
    return origin.source == Origin::Source::kRecipe || origin.source == Origin::Source::kOverride;
}

/// A key of another variant, which somebody set.
struct Foreign {
    size_t field;
    std::string text;
};

/// Puts the keys that do not belong to the variant back to their defaults, and returns those.
std::vector<Foreign> take_foreign(Config& config, const Origins& origins) {
    const Config defaults;
    const VariantSet variant = variant_of(config);
    std::vector<Foreign> foreign;
    for (size_t i = 0; i < origins.size(); ++i) {
        const Field& field = config_fields()[i];
        if ((field.variants & variant) || !is_set(origins[i])) continue;
        foreign.push_back({i, value_text(field, config)});
        std::visit([&](auto access) { access(config) = access(const_cast<Config&>(defaults)); },
                   field.access);
    }
    return foreign;
}

/// A foreign key is an error unless it only states what holds anyway: 0 (automatic), or the resolved value.
void check_foreign(const std::vector<Foreign>& foreign, const Config& config, const Origins& origins) {
    for (const Foreign& set : foreign) {
        const Field& field = config_fields()[set.field];
        if (set.text == "0" || set.text == value_text(field, config)) continue;
        fail(ExitCode::kUsage, "{}: [{}] {} = {} belongs to {}, but attention.variant is \"{}\"{}",
             origins[set.field].place, field.section, field.key, set.text, describe(field.variants),
             config.attention.variant,
             config.attention.variant == "mla-prerope"
                 ? fmt::format(" with prerope_site = \"{}\"", config.attention.prerope_site)
                 : "");
    }
}

void fill(int64_t& value, int64_t derived) {
    if (value == 0) value = derived;
}

void fill_model(Config& config, const Explainer& explain) {
    ModelConfig& m = config.model;
    if (m.head_dim == 0) {
        if (m.d_model % m.heads != 0)
            fail(ExitCode::kUsage, "model: {} does not divide {}: change one of them or give head_dim",
                 explain.value("model", "heads"), explain.value("model", "d_model"));
        m.head_dim = m.d_model / m.heads;
    }
    fill(m.kv_heads, m.heads);
    if (m.heads % m.kv_heads != 0)
        fail(ExitCode::kUsage, "model: {} does not divide {}", explain.value("model", "kv_heads"),
             explain.value("model", "heads"));
}

void check_rank(const Explainer& explain, const char* key, int64_t rank, int64_t width,
                const std::string& of) {
    if (rank < 1 || rank > width)
        fail(ExitCode::kUsage, "attention: {}: expected 1 to {}, the width it compresses ({})",
             explain.value("attention", key), width, of);
}

void check_even(const Explainer& explain, const char* section, const char* key, int64_t width) {
    if (width < 2 || width % 2 != 0)
        fail(ExitCode::kUsage, "{}: {}: expected an even width, since rotary embeddings rotate pairs",
             section, explain.value(section, key));
}

void fill_decoupled(Config& config, const Explainer& explain) {
    AttentionConfig& a = config.attention;
    const ModelConfig& m = config.model;
    fill(a.kv_rank, m.d_model / 2);
    fill(a.nope_dim, m.head_dim / 2);
    fill(a.rope_dim, m.head_dim / 2);
    fill(a.v_dim, m.head_dim);
    a.latent_norm = true;
    if (a.nope_dim < 1)
        fail(ExitCode::kUsage, "attention: {}: expected 1 or more", explain.value("attention", "nope_dim"));
    check_even(explain, "attention", "rope_dim", a.rope_dim);
    check_rank(explain, "kv_rank", a.kv_rank, m.d_model, explain.value("model", "d_model"));
    if (a.q_rank != 0) check_rank(explain, "q_rank", a.q_rank, m.d_model, explain.value("model", "d_model"));
}

void fill_prerope(Config& config, const Explainer& explain) {
    AttentionConfig& a = config.attention;
    const ModelConfig& m = config.model;
    const int64_t keys = m.heads * m.head_dim;
    check_even(explain, "model", "head_dim", m.head_dim);
    if (a.prerope_site == "input") {
        if (keys != m.d_model)
            fail(ExitCode::kUsage,
                 "attention: prerope_site = \"input\" rotates the model's width in heads: {} x {} is not {}",
                 explain.value("model", "heads"), explain.value("model", "head_dim"),
                 explain.value("model", "d_model"));
        fill(a.kv_rank, m.d_model / 2);
        check_rank(explain, "kv_rank", a.kv_rank, m.d_model, explain.value("model", "d_model"));
        return;
    }
    fill(a.k_rank, m.d_model / 4);
    fill(a.v_rank, m.d_model / 4);
    check_rank(explain, "k_rank", a.k_rank, keys,
               fmt::format("{} x {}", explain.value("model", "heads"), explain.value("model", "head_dim")));
    check_rank(explain, "v_rank", a.v_rank, m.d_model, explain.value("model", "d_model"));
}

void fill_attention(Config& config, const Explainer& explain) {
    switch (variant_of(config)) {
        case kDecoupled:
            return fill_decoupled(config, explain);
        case kPreropeKeys:
        case kPreropeInput:
            return fill_prerope(config, explain);
        default:
            return check_even(explain, "model", "head_dim", config.model.head_dim);
    }
}

void fill_train(Config& config, const Explainer& explain, int ranks) {
    TrainConfig& t = config.train;
    if (t.global_batch % ranks != 0)
        fail(ExitCode::kUsage, "train: {} does not divide over {} ranks",
             explain.value("train", "global_batch"), ranks);
    fill(t.micro_batch,
         default_micro_batch(t.global_batch / ranks, config.data.seq_len, config.model.d_model));
    if (t.global_batch % t.micro_batch != 0)
        fail(ExitCode::kUsage, "train: {} does not divide {}", explain.value("train", "micro_batch"),
             explain.value("train", "global_batch"));
    if (t.warmup_steps > t.steps)
        fail(ExitCode::kUsage, "train: {} is more than {}", explain.value("train", "warmup_steps"),
             explain.value("train", "steps"));
    if (t.global_batch * t.steps > INT64_MAX / config.data.seq_len)
        fail(ExitCode::kUsage, "train: {} of {} sequences of {} tokens: more tokens than 64 bits count",
             explain.value("train", "steps"), explain.value("train", "global_batch"),
             explain.value("data", "seq_len"));
}

void fill_diagnostics(Config& config, const Explainer& explain) {
    DiagnosticsConfig& d = config.diagnostics;
    const bool decoupled = variant_of(config) == kDecoupled;
    if (d.scopes.empty()) d.scopes = default_scopes(config);
    for (const std::string& scope : d.scopes)
        if (!decoupled && (scope == "content" || scope == "rope"))
            fail(ExitCode::kUsage, "diagnostics: {}: \"{}\" is a part of {}, but attention.variant is \"{}\"",
                 explain.value("diagnostics", "scopes"), scope, describe(kDecoupled),
                 config.attention.variant);
    if (d.nulls.empty())
        fail(ExitCode::kUsage, "diagnostics: {}: expected one or more (every = 0 turns diagnostics off)",
             explain.value("diagnostics", "nulls"));
}

/// A folder named with more authority than the paths derived from an older one replaces them: `--data.dir=x`
/// over a resolved recipe must not read the recipe's shards.
void derive_path(std::string& path, const Origin& from, const Origin& base, const std::string& derived) {
    if (path.empty() || base.source > from.source) path = derived;
}

void fill_paths(Config& config, const Explainer& explain) {
    DataConfig& data = config.data;
    const Origin& dir = explain.origin("data", "dir");
    if (!data.dir.empty()) {
        derive_path(data.train, explain.origin("data", "train"), dir, shard_glob(data.dir, "train"));
        derive_path(data.val, explain.origin("data", "val"), dir, shard_glob(data.dir, "val"));
    }
    RunConfig& run = config.run;
    if (run.name.empty()) run.name = config.model.preset + "-" + config.attention.variant;
    if (run.name.find('/') != std::string::npos || run.name == "." || run.name == "..")
        fail(ExitCode::kUsage, "run: {}: expected a name, without \"/\" (run.dir takes a path)",
             explain.value("run", "name"));
    derive_path(run.dir, explain.origin("run", "dir"), explain.origin("run", "name"), "runs/" + run.name);
}

}  // namespace

const std::vector<std::string>& preset_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (const Preset& preset : kPresets) all.emplace_back(preset.name);
        return all;
    }();
    return names;
}

void apply_preset(Config& config, Origins& origins) {
    const Preset& preset = preset_named(config.model.preset);
    const auto give = [&](const char* key, int64_t& value, int64_t from_preset) {
        Origin& origin = origins[index_of("model", key)];
        if (is_set(origin)) return;
        value = from_preset;
        origin.source = Origin::Source::kPreset;
    };
    give("vocab", config.model.vocab, preset.vocab);
    give("d_model", config.model.d_model, preset.d_model);
    give("ffn", config.model.ffn, preset.ffn);
    give("layers", config.model.layers, preset.layers);
    give("heads", config.model.heads, preset.heads);
}

void resolve_config(Config& config, const Origins& origins, int ranks) {
    const std::vector<Foreign> foreign = take_foreign(config, origins);
    const Explainer explain(config, origins);
    fill_model(config, explain);
    fill_attention(config, explain);
    fill_train(config, explain, ranks);
    fill_diagnostics(config, explain);
    fill_paths(config, explain);
    check_foreign(foreign, config, origins);
}

int64_t default_micro_batch(int64_t sequences, int64_t seq_len, int64_t width) {
    // 65,536 tokens of a 130m model take 16 to 21 GiB; wide ones fill the device sooner, and do as well with
    // fewer.
    const int64_t tokens = width <= 1024 ? 65536 : 32768;
    for (int64_t parts = 1; parts < sequences; ++parts)
        if (sequences % parts == 0 && sequences / parts * seq_len <= tokens) return sequences / parts;
    return 1;
}

}  // namespace pastur
