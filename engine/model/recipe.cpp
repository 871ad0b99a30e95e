#include "engine/model/recipe.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/model/attention/qk_clip.h"
#include "engine/model/attention/variants.h"
#include "engine/model/probe_scopes.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// A key that was given although the variant does not read it.
struct Unread {
    const Field* field;
    std::string value;
};

/// Whether some variant reads the key and the recipe's does not.
bool is_unread(const RawRecipe& recipe, const Field& field) {
    if (const VariantKey* key = variant_of(recipe.config).find_key(field))
        return key->is_read && !key->is_read(recipe.config);
    return std::any_of(variants().begin(), variants().end(),
                       [&](const VariantInfo* variant) { return variant->find_key(field) != nullptr; });
}

/// Sets the unread keys back to their defaults.
std::vector<Unread> take_unread(RawRecipe& recipe) {
    const Config defaults;
    std::vector<Unread> unread;
    for (const Field& field : recipe.fields()) {
        if (!recipe.is_given(field) || !is_unread(recipe, field)) continue;
        unread.push_back({&field, value_text(field, recipe.config)});
        copy_field(field, defaults, recipe.config);
    }
    return unread;
}

/// `"mla-prerope" with prerope_site = "input", "mla-decoupled" or "mla-rope"`.
std::string readers_of(const Field& field) {
    std::vector<std::string> readers;
    for (const VariantInfo* variant : variants())
        if (const VariantKey* key = variant->find_key(field))
            readers.push_back(fmt::format("\"{}\"{}", variant->name,
                                          key->condition ? fmt::format(" with {}", key->condition) : ""));
    const std::string last = readers.back();
    readers.pop_back();
    return readers.empty() ? last : fmt::format("{} or {}", fmt::join(readers, ", "), last);
}

/// A line about each unread key, unless it only states what holds anyway: 0 (automatic), or the resolved
/// value.
void report_unread(const RawRecipe& recipe, const std::vector<Unread>& unread,
                   std::vector<std::string>& ignored) {
    for (const auto& [field, value] : unread)
        if (value != "0" && value != value_text(*field, recipe.config))
            ignored.push_back(fmt::format(
                "{}: [{}] {} = {} is ignored: it belongs to attention.variant {}, and this one is \"{}\"",
                recipe.origin(*field).place, field->section, field->key, value, readers_of(*field),
                variant_of(recipe.config).name));
}

std::vector<Scope> default_scopes(const VariantInfo& variant) {
    std::vector<Scope> scopes = variant.default_scopes;
    scopes.push_back(Scope::kLogits);
    return scopes;
}

/// Drops scopes that the variant does not have; the default ones where there are none.
void settle_scopes(RawRecipe& recipe, std::vector<std::string>& ignored) {
    const VariantInfo& variant = variant_of(recipe.config);
    std::vector<Scope>& scopes = recipe.config.diagnostics.scopes;
    const std::string place = recipe.origin("diagnostics", "scopes").place;
    std::erase_if(scopes, [&](Scope scope) {
        if (variant.has_scope(scope) || reads_probe(scope)) return false;
        ignored.push_back(fmt::format(
            "{}: [diagnostics] scopes: \"{}\" is ignored: attention.variant \"{}\" has no such part", place,
            name_of(scope), variant.name));
        return true;
    });
    if (scopes.empty()) scopes = default_scopes(variant);
}

void check_positions(const RawRecipe& recipe) {
    const std::vector<int64_t>& positions = recipe.config.diagnostics.positions;
    const std::string said = recipe.describe("diagnostics", "positions");
    if (positions.size() % 2 != 0)
        fail(ExitCode::kUsage,
             "diagnostics: {}: expected pairs of positions, i0, j0, i1, j1, ...; got {} numbers", said,
             positions.size());
    const int64_t length = recipe.config.data.seq_len;
    for (const int64_t position : positions)
        if (position >= length)
            fail(ExitCode::kUsage, "diagnostics: {}: expected positions below {}; got {}", said,
                 recipe.describe("data", "seq_len"), position);
}

void resolve(RawRecipe& recipe, int ranks, std::vector<std::string>& ignored) {
    const std::vector<Unread> unread = take_unread(recipe);
    const VariantInfo& variant = variant_of(recipe.config);
    derive_model(recipe);
    variant.fill(recipe);
    check_qk_clip(recipe);
    settle_scopes(recipe, ignored);
    check_positions(recipe);
    RunConfig& run = recipe.config.run;
    if (run.name.empty()) run.name = recipe.config.model.preset + "-" + variant.name;
    derive_run(recipe, ranks);
    report_unread(recipe, unread, ignored);
}

}  // namespace

Config parse_config(const std::string& text, const std::string& where, const std::vector<Override>& overrides,
                    int ranks, std::vector<std::string>* ignored) {
    RawRecipe recipe(config_fields());
    recipe.read(text, where);
    for (const Override& override : overrides) recipe.apply(override);
    recipe.apply_preset();
    std::vector<std::string> unused;
    resolve(recipe, ranks, ignored ? *ignored : unused);
    return recipe.config;
}

Config load_config(const std::string& path, const std::vector<Override>& overrides, int ranks,
                   std::vector<std::string>* ignored) {
    return parse_config(read_recipe_file(path), path, overrides, ranks, ignored);
}

Config with_variant(Config config, Variant variant) {
    if (variant == config.attention.variant) return config;
    if (config.diagnostics.scopes == default_scopes(variant_of(config))) config.diagnostics.scopes.clear();
    config.attention = AttentionConfig{.variant = variant};
    config.model.kv_heads = 0;
    RawRecipe recipe(config_fields());
    recipe.config = config;
    std::vector<std::string> ignored;
    resolve(recipe, 1, ignored);
    return recipe.config;
}

std::string to_toml(const Config& config) {
    std::string text, section;
    for (const Field& field : config_fields()) {
        if (section != field.section) {
            text += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", field.section);
            section = field.section;
        }
        text += fmt::format("{} = {}\n", field.key, value_text(field, config));
    }
    return text;
}

std::string describe_config_keys() {
    RawRecipe defaults(config_fields());
    defaults.apply_preset();
    std::string text;
    for (const Field& field : config_fields()) {
        const bool preset = defaults.origin(field).source == Origin::Source::kPreset;
        text += fmt::format("  {:<24} {:<10} {}", field.path(),
                            preset ? "preset" : value_text(field, defaults.config), field.doc);
        if (!field.choices.empty()) text += fmt::format(" [{}]", fmt::join(field.choices, "|"));
        text += '\n';
    }
    return text;
}

std::span<const Field> config_fields() {
    static const std::vector<Field> fields = make_config_fields(variant_names());
    return fields;
}

const Field* find_field(std::string_view section, std::string_view key) {
    return find_field(config_fields(), section, key);
}

}  // namespace pastur
