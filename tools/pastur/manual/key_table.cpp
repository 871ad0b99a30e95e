#include "tools/pastur/manual/key_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/config/expected_value.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"

namespace pastur {
namespace {

/// The variants that read the field, unless all do.
std::string readers_of(const Field& field) {
    std::vector<std::string> readers;
    for (const VariantInfo* variant : variants())
        if (const VariantKey* key = variant->find_key(field))
            readers.push_back(key->condition ? fmt::format("{} with {}", variant->name, key->condition)
                                             : variant->name);
    if (readers.size() == variants().size()) return "";
    return fmt::format("{}", fmt::join(readers, ", "));
}

bool is_folder(const std::string& path) {
    return path == "data.dir" || path == "run.dir" || path == "train.init_from";
}

RawRecipe preset_of(const std::string& name) {
    RawRecipe recipe(config_fields());
    recipe.apply({"model.preset", name});
    recipe.apply_preset();
    return recipe;
}

}  // namespace

std::vector<KeyRow> key_table() {
    const RawRecipe defaults = preset_of(preset_names().front());
    std::vector<KeyRow> rows;
    for (const Field& field : config_fields()) {
        const bool preset = defaults.origin(field).source == Origin::Source::kPreset;
        rows.push_back({.section = field.section,
                        .key = field.key,
                        .description = field.doc,
                        .initial = preset ? "" : value_text(field, defaults.config),
                        .expected = expected_value(field),
                        .readers = readers_of(field),
                        .choices = field.choices,
                        .is_list = std::holds_alternative<ChoiceListAccess>(field.access),
                        .is_folder = is_folder(field.path())});
        if (std::holds_alternative<bool& (*)(Config&)>(field.access)) rows.back().choices = {"true", "false"};
    }
    return rows;
}

std::string preset_text(const std::string& preset) {
    const RawRecipe recipe = preset_of(preset);
    std::vector<std::string> values;
    for (const Field& field : config_fields())
        if (recipe.origin(field).source == Origin::Source::kPreset)
            values.push_back(fmt::format("{} = {}", field.path(), value_text(field, recipe.config)));
    return fmt::format("{}", fmt::join(values, ", "));
}

}  // namespace pastur
