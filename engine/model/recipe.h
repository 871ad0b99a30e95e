#pragma once
// Resolved recipes: every setting that a recipe leaves to its preset and attention variant is filled.
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config/config_fields.h"

namespace pastur {

/// Reads a recipe, applies the preset under it and the overrides over it, fills the derived fields
/// (everything in config.h that says "0: ..." or "empty: ...") and validates. A folder or run name given as
/// an override replaces the globs or the run folder that the recipe derived from the old one. `ranks` share a
/// step's sequences; the default micro-batch divides a rank's part. Settings for which the attention variant
/// has no use keep their defaults; `ignored`, if not null, receives a line about each. Throws (kMissingInput,
/// kUsage): file:line, the key, what was expected, and for an unknown key the nearest valid one.
Config load_config(const std::string& path, const std::vector<Override>& overrides, int ranks = 1,
                   std::vector<std::string>* ignored = nullptr);
/// load_config() of TOML text; `where` names it in errors.
Config parse_config(const std::string& toml, const std::string& where, const std::vector<Override>& overrides,
                    int ranks = 1, std::vector<std::string>* ignored = nullptr);
/// The same model with another attention variant. The variant's keys take their defaults, and so does diagnostics.scopes,
/// unless it differs from the defaults of config's variant: then those stay that the other variant has.
Config with_variant(Config config, Variant variant);
/// Every key with its resolved value: parse_config of it gives the same Config back.
std::string to_toml(const Config& config);
/// One line a key: section.key, default, meaning. For `pastur train --help`.
std::string describe_config_keys();

/// The table of keys, with the names of all attention variants.
std::span<const Field> config_fields();
/// Null when there is no such key.
const Field* find_field(std::string_view section, std::string_view key);

}  // namespace pastur
