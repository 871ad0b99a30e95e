// Presets, derived fields, and checks that concern more than one key.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "data/mixture.h"
#include "data/shards/shard.h"
#include "engine/config/raw_recipe.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// A multiple of every number of ranks up to 8.
constexpr int64_t kEveryRankCount = 840;

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

void fill_train(RawRecipe& recipe, int ranks) {
    Config& config = recipe.config;
    TrainConfig& t = config.train;
    if (t.global_batch % ranks != 0)
        fail(ExitCode::kUsage, "train: {} does not divide over {} ranks",
             recipe.describe("train", "global_batch"), ranks);
    // The same bits on any number of ranks need the same micro-batch on them.
    const int64_t shares = t.deterministic_comm ? std::gcd(t.global_batch, kEveryRankCount) : ranks;
    fill(t.micro_batch,
         default_micro_batch(t.global_batch / shares, config.data.seq_len, config.model.d_model));
    if (t.global_batch % t.micro_batch != 0)
        fail(ExitCode::kUsage, "train: {} does not divide {}", recipe.describe("train", "micro_batch"),
             recipe.describe("train", "global_batch"));
    if (t.warmup_steps > t.steps)
        fail(ExitCode::kUsage, "train: {} is more than {}", recipe.describe("train", "warmup_steps"),
             recipe.describe("train", "steps"));
    if (t.global_batch * t.steps > INT64_MAX / config.data.seq_len)
        fail(ExitCode::kUsage, "train: {} of {} sequences of {} tokens: more tokens than 64 bits count",
             recipe.describe("train", "steps"), recipe.describe("train", "global_batch"),
             recipe.describe("data", "seq_len"));
}

/// Sets a path that is empty, or whose base has a source of higher precedence: `--data.dir=x` over a resolved
/// recipe must not read the shards that the recipe derived from its own folder.
void derive_path(std::string& path, const Origin& from, const Origin& base, const std::string& derived) {
    if (path.empty() || base.source > from.source) path = derived;
}

/// Refuses a text of [data] that `parse` refuses, with its place in the recipe.
void check_list(const RawRecipe& recipe, const char* key, const std::function<void()>& parse) {
    try {
        parse();
    } catch (const Error& error) {
        fail(error.code(), "data: {}: {}", recipe.describe("data", key), error.what());
    }
}

void fill_paths(RawRecipe& recipe) {
    Config& config = recipe.config;
    DataConfig& data = config.data;
    if (!data.mixture.empty()) {
        check_list(recipe, "mixture", [&] { parse_mixture(data.mixture); });
        for (const char* key : {"dir", "train"})
            if (const std::string& value = *key == 'd' ? data.dir : data.train; !value.empty())
                fail(ExitCode::kUsage, "data: {} and {} exclude each other: set one of them to \"\"",
                     recipe.describe("data", "mixture"), recipe.describe("data", key));
    }
    check_list(recipe, "val_sets", [&] { parse_val_sets(data.val_sets); });
    const Origin& dir = recipe.origin("data", "dir");
    if (!data.dir.empty()) {
        derive_path(data.train, recipe.origin("data", "train"), dir, shard_glob(data.dir, "train"));
        derive_path(data.val, recipe.origin("data", "val"), dir, shard_glob(data.dir, "val"));
    }
    RunConfig& run = config.run;
    if (run.name.find('/') != std::string::npos || run.name == "." || run.name == "..")
        fail(ExitCode::kUsage, "run: {}: expected a name, without \"/\" (run.dir takes a path)",
             recipe.describe("run", "name"));
    derive_path(run.dir, recipe.origin("run", "dir"), recipe.origin("run", "name"), "runs/" + run.name);
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

void derive_model(RawRecipe& recipe) {
    ModelConfig& m = recipe.config.model;
    if (m.head_dim == 0) {
        if (m.d_model % m.heads != 0)
            fail(ExitCode::kUsage, "model: {} does not divide {}: change one of them or give head_dim",
                 recipe.describe("model", "heads"), recipe.describe("model", "d_model"));
        m.head_dim = m.d_model / m.heads;
    }
    fill(m.kv_heads, m.heads);
    if (m.heads % m.kv_heads != 0)
        fail(ExitCode::kUsage, "model: {} does not divide {}", recipe.describe("model", "kv_heads"),
             recipe.describe("model", "heads"));
}

void RawRecipe::apply_preset() {
    const Preset& preset = preset_named(config.model.preset);
    const auto give = [&](const char* key, int64_t& value, int64_t from_preset) {
        const Field& sized = field("model", key);
        if (is_given(sized)) return;
        value = from_preset;
        origin_of(sized).source = Origin::Source::kPreset;
    };
    give("vocab", config.model.vocab, preset.vocab);
    give("d_model", config.model.d_model, preset.d_model);
    give("ffn", config.model.ffn, preset.ffn);
    give("layers", config.model.layers, preset.layers);
    give("heads", config.model.heads, preset.heads);
}

void derive_run(RawRecipe& recipe, int ranks) {
    fill_train(recipe, ranks);
    if (recipe.config.diagnostics.nulls.empty())
        fail(ExitCode::kUsage, "diagnostics: {}: expected one or more (every = 0 turns diagnostics off)",
             recipe.describe("diagnostics", "nulls"));
    fill_paths(recipe);
}

int64_t default_micro_batch(int64_t sequences, int64_t seq_len, int64_t width) {
    // 65,536 tokens of a 130m model take 16 to 21 GiB. Wide models fill the device with fewer tokens, and are
    // as fast with fewer.
    const int64_t tokens = width <= 1024 ? 65536 : 32768;
    for (int64_t parts = 1; parts < sequences; ++parts)
        if (sequences % parts == 0 && sequences / parts * seq_len <= tokens) return sequences / parts;
    return 1;
}

}  // namespace pastur
