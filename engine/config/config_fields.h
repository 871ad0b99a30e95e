#pragma once
// The one table of configuration keys: parsing, overrides, validation, dump and help are all driven by it.
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// A field that is one of Field::choices, or a list of them, as indices into choices.
struct ChoiceAccess {
    size_t (*get)(const Config&);
    void (*set)(Config&, size_t);
};
struct ChoiceListAccess {
    std::vector<size_t> (*get)(const Config&);
    void (*set)(Config&, const std::vector<size_t>&);
};

/// Where a field lives in a Config, by type.
using FieldAccess = std::variant<int64_t& (*)(Config&), uint64_t& (*)(Config&), double& (*)(Config&),
                                 bool& (*)(Config&), std::string& (*)(Config&),
                                 std::vector<int64_t>& (*)(Config&), ChoiceAccess, ChoiceListAccess>;

/// Allowed numbers, and those of a list: low <= x <= high, or low < x when `above` is set, or x < high when
/// `below` is.
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
    std::vector<std::string> choices = {};  ///< empty: any text
    /// Former names of choices, each with the name that replaced it.
    std::vector<std::pair<std::string, std::string>> former = {};

    std::string path() const { return std::string(section) + "." + key; }
};

/// All keys, section by section, in the order in which they are written. `variants`: the names of
/// attention.variant, as Variant counts them.
std::vector<Field> make_config_fields(std::vector<std::string> variants);
/// Null when there is no such key.
const Field* find_field(std::span<const Field> fields, std::string_view section, std::string_view key);

/// Calls visitor(value) with the field's value in `config`: an integer, a floating-point number, a truth
/// value, text or a list. Choices are text.
template <typename Visitor>
auto visit_value(const Field& field, const Config& config, Visitor&& visitor) {
    return std::visit(
        [&](auto access) {
            if constexpr (std::is_same_v<decltype(access), ChoiceAccess>) {
                return visitor(field.choices[access.get(config)]);
            } else if constexpr (std::is_same_v<decltype(access), ChoiceListAccess>) {
                std::vector<std::string> names;
                for (const size_t index : access.get(config)) names.push_back(field.choices[index]);
                return visitor(std::as_const(names));
            } else {
                // Accessors take a Config& but only pick a member.
                return visitor(std::as_const(access(const_cast<Config&>(config))));
            }
        },
        field.access);
}
/// Sets the field in `to` as it is in `from`.
void copy_field(const Field& field, const Config& from, Config& to);
/// Sets a field that is text or choices. Throws (kUsage) "<where>: expected ..." for an invalid one.
void set_text(const Field& field, Config& config, const std::string& text, const std::string& where);
void set_texts(const Field& field, Config& config, const std::vector<std::string>& texts,
               const std::string& where);
/// Throws (kUsage) "<where>: expected ..." when the field's value in `config` is out of range.
void check_field(const Field& field, const Config& config, const std::string& where);
/// The field's value as TOML: quoted strings, lists in brackets, floats in their shortest form that reads
/// back equal.
std::string value_text(const Field& field, const Config& config);

const std::vector<std::string>& preset_names();

}  // namespace pastur
