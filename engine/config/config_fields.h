#pragma once
// The one table of configuration keys: parsing, overrides, validation, dump and help are all driven by it.
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// What of a model a key belongs to; keys of another variant must not be set.
enum VariantSet : unsigned {
    kMha = 1,
    kPreropeKeys = 2,
    kPreropeInput = 4,
    kDecoupled = 8,
    kEveryVariant = 15,
};
VariantSet variant_of(const Config& config);
/// `variant "mla-prerope" with prerope_site = "input" or variant "mla-decoupled"`.
std::string describe(VariantSet variants);

/// Where a field lives in a Config, by type.
using FieldAccess = std::variant<int64_t& (*)(Config&), uint64_t& (*)(Config&), double& (*)(Config&),
                                 bool& (*)(Config&), std::string& (*)(Config&),
                                 std::vector<int64_t>& (*)(Config&), std::vector<std::string>& (*)(Config&)>;

/// Allowed numbers, and those of a list: low <= x <= high, or low < x when `above` is set; likewise `below`.
struct Range {
    double low = -std::numeric_limits<double>::infinity();
    double high = std::numeric_limits<double>::infinity();
    bool above = false;
    bool below = false;
};
/// The bound of a number without one: any finite value is below.
inline constexpr double kLargest = std::numeric_limits<double>::max();

struct Field {
    const char* section;
    const char* key;
    FieldAccess access;
    const char* doc;
    Range range = {};
    std::vector<std::string> choices = {};  ///< of a string or of a list's; empty: any text
    VariantSet variants = kEveryVariant;
    /// Choices as older recipes call them, and as they are called now.
    std::vector<std::pair<std::string, std::string>> former = {};

    std::string path() const { return std::string(section) + "." + key; }
};

/// All keys, section by section, in the order in which they are written.
std::span<const Field> config_fields();
/// Null when there is no such key.
const Field* find_field(std::string_view section, std::string_view key);

/// Gives a choice that goes by a former name its present one.
void rename_former(const Field& field, Config& config);
/// Throws (kUsage) "<where>: expected ..." when the field's value in `config` is out of range or no valid
/// choice.
void check_field(const Field& field, const Config& config, const std::string& where);
/// The field's value as TOML: quoted strings, lists in brackets, floats in their shortest form that reads
/// back equal.
std::string value_text(const Field& field, const Config& config);

/// Where each key of a Config was set, for messages and precedence.
struct Origin {
    enum class Source { kDefault, kPreset, kRecipe, kOverride };
    Source source = Source::kDefault;
    std::string place;  ///< "recipe.toml:12" or "--train.lr"
};
using Origins = std::vector<Origin>;  ///< parallel to config_fields()

const std::vector<std::string>& preset_names();
/// Fills the fields that a preset gives and nobody set.
void apply_preset(Config& config, Origins& origins);
/// Fills derived fields and checks everything that concerns more than one key. Throws (kUsage).
void resolve_config(Config& config, const Origins& origins, int ranks);

}  // namespace pastur
