#include "engine/config/config.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/config/config_fields.h"
#include "engine/config/config_text.h"
#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

std::vector<std::string> section_names() {
    std::vector<std::string> names;
    for (const Field& field : config_fields())
        if (names.empty() || names.back() != field.section) names.emplace_back(field.section);
    return names;
}

std::vector<std::string> key_names(std::string_view section) {
    std::vector<std::string> names;
    for (const Field& field : config_fields())
        if (field.section == section) names.emplace_back(field.key);
    return names;
}

/// "; did you mean "lr"?", or where the key does exist: a key in the wrong section is the likelier mistake.
std::string suggest_key(std::string_view section, std::string_view key) {
    for (const Field& field : config_fields())
        if (field.key == key) return fmt::format("; \"{}\" belongs to [{}]", key, field.section);
    return fmt::format("; did you mean \"{}\"?", nearest_name(key, key_names(section)));
}

const Field& field_or_fail(std::string_view section, std::string_view key, const std::string& where) {
    if (const Field* field = find_field(section, key)) return *field;
    const std::vector<std::string> sections = section_names();
    if (std::find(sections.begin(), sections.end(), section) == sections.end())
        fail(ExitCode::kUsage, "{}: unknown section [{}]; did you mean [{}]?", where, section,
             nearest_name(section, sections));
    fail(ExitCode::kUsage, "{}: unknown key \"{}\" in [{}]{}", where, key, section,
         suggest_key(section, key));
}

template <typename T>
constexpr const char* kExpected = "text";
template <>
constexpr const char* kExpected<bool> = "true or false";
template <>
constexpr const char* kExpected<double> = "a number";
template <>
constexpr const char* kExpected<int64_t> = "an integer";
template <>
constexpr const char* kExpected<uint64_t> = "an integer";
template <>
constexpr const char* kExpected<std::vector<int64_t>> = "a list of integers, as in [0, 10, 20]";
template <>
constexpr const char* kExpected<std::vector<std::string>> = "a list of texts, as in [\"head\", \"layer\"]";

template <typename T>
constexpr bool kIsList = false;
template <typename Item>
constexpr bool kIsList<std::vector<Item>> = true;

/// A value of the recipe; false when it has another type. An integer is a number too, but not the reverse.
template <typename T>
bool read_value(T& out, const toml::node& node) {
    if constexpr (kIsList<T>) {
        const toml::array* array = node.as_array();
        if (!array) return false;
        out.clear();
        for (const toml::node& item : *array)
            if (!read_value(out.emplace_back(), item)) return false;
        return true;
    }
    if constexpr (std::is_same_v<T, double>) {
        if (const auto integer = node.value_exact<int64_t>())
            return out = static_cast<double>(*integer), true;
    }
    if constexpr (std::is_same_v<T, uint64_t>) {
        const auto integer = node.value_exact<int64_t>();
        if (!integer || *integer < 0) return false;
        return out = static_cast<uint64_t>(*integer), true;
    } else if constexpr (!kIsList<T>) {
        const auto value = node.value_exact<T>();
        if (value) out = *value;
        return value.has_value();
    }
}

/// A list as a recipe has it: [0, 10, 20].
template <typename T>
bool read_toml_list(T& out, const std::string& text) {
    try {
        const toml::table table = toml::parse("list = " + text);
        return table.size() == 1 && read_value(out, *table.get("list"));
    } catch (const toml::parse_error&) {
        return false;
    }
}

/// A value of the command line: the same, from plain text. Strings need no quotes, and lists no more than
/// commas.
template <typename T>
bool read_value(T& out, const std::string& text) {
    if constexpr (kIsList<T>) {
        if (text.starts_with('[')) return read_toml_list(out, text);
        out.clear();
        std::istringstream items(text);
        for (std::string item; std::getline(items, item, ',');)
            if (!read_value(out.emplace_back(), item)) return false;
        return text.empty() || text.back() != ',';
    } else if constexpr (std::is_same_v<T, std::string>) {
        return out = text, true;
    } else if constexpr (std::is_same_v<T, bool>) {
        return out = text == "true", text == "true" || text == "false";
    } else {
        const char* begin = text.data() + (text.size() > 1 && text[0] == '+' ? 1 : 0);
        const auto [end, error] = std::from_chars(begin, text.data() + text.size(), out);
        return error == std::errc() && end == text.data() + text.size();
    }
}

/// What a message shows of an offending value: one short line.
std::string shown(const toml::node& node) {
    std::ostringstream text;
    node.visit([&](const auto& value) { text << value; });
    std::string line = text.str().substr(0, 60);
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
}

template <typename Input>
void set_field(Config& config, const Field& field, const Input& input, const std::string& where) {
    std::visit(
        [&](auto access) {
            auto& value = access(config);
            using Value = std::remove_cvref_t<decltype(value)>;
            if (!read_value(value, input)) fail(ExitCode::kUsage, "{}: expected {}", where, kExpected<Value>);
        },
        field.access);
    rename_former(field, config);
    check_field(field, config, where);
}

Origin& origin_of(Origins& origins, const Field& field) {
    return origins[static_cast<size_t>(&field - config_fields().data())];
}

bool toml_parses(const std::string& text) {
    try {
        static_cast<void>(toml::parse(text));
        return true;
    } catch (const toml::parse_error&) {
        return false;
    }
}

toml::table parse_toml(const std::string& text, const std::string& where) {
    check_recipe_text(text, where);
    try {
        return toml::parse(text, where);
    } catch (const toml::parse_error& error) {
        fail(ExitCode::kUsage, "{}:{}: {}", where, error.source().begin.line, error.description());
    }
}

void apply_section(Config& config, Origins& origins, std::string_view section, const toml::table& table,
                   const std::string& where) {
    for (const auto& [key, node] : table) {
        const std::string place = fmt::format("{}:{}", where, key.source().begin.line);
        const Field& field = field_or_fail(section, key.str(), place);
        set_field(config, field, node,
                  fmt::format("{}: [{}] {} = {}", place, section, key.str(), shown(node)));
        origin_of(origins, field) = {Origin::Source::kRecipe, place};
    }
}

void apply_recipe(Config& config, Origins& origins, const toml::table& recipe, const std::string& where) {
    const std::vector<std::string> sections = section_names();
    for (const auto& [key, node] : recipe) {
        const std::string place = fmt::format("{}:{}", where, key.source().begin.line);
        const std::string name(key.str());
        const bool known = std::find(sections.begin(), sections.end(), name) != sections.end();
        if (const toml::table* table = node.as_table()) {
            if (!known)
                fail(ExitCode::kUsage, "{}: unknown section [{}]; did you mean [{}]?", place, name,
                     nearest_name(name, sections));
            apply_section(config, origins, name, *table, where);
        } else if (known) {
            fail(ExitCode::kUsage, "{}: {} = {}: expected a section, written [{}]", place, name, shown(node),
                 name);
        } else {
            std::string nearest;
            for (const Field& field : config_fields())
                if (nearest.empty() || edit_distance(name, field.key) < edit_distance(name, nearest))
                    nearest = field.key;
            const auto owner = std::find_if(config_fields().begin(), config_fields().end(),
                                            [&](const Field& field) { return field.key == nearest; });
            fail(ExitCode::kUsage, "{}: key \"{}\" stands outside every section; did you mean [{}] {}?",
                 place, name, owner->section, owner->key);
        }
    }
}

void apply_override(Config& config, Origins& origins, const Override& override) {
    const auto& [path, value] = override;
    const std::string where = fmt::format("--{}={}", path, value);
    const size_t dot = path.find('.');
    if (dot == std::string::npos) fail(ExitCode::kUsage, "{}: expected --section.key=value", where);
    const Field& field = field_or_fail(path.substr(0, dot), path.substr(dot + 1), where);
    set_field(config, field, value, where);
    // What cannot be read back from config.toml, such as bytes that are no UTF-8, is refused now.
    if (!toml_parses("value = " + value_text(field, config)))
        fail(ExitCode::kUsage, "{}: expected UTF-8 text", where);
    origin_of(origins, field) = {Origin::Source::kOverride, "--" + path};
}

}  // namespace

Config parse_config(const std::string& text, const std::string& where, const std::vector<Override>& overrides,
                    int ranks) {
    Config config;
    Origins origins(config_fields().size());
    apply_recipe(config, origins, parse_toml(text, where), where);
    for (const Override& override : overrides) apply_override(config, origins, override);
    apply_preset(config, origins);
    resolve_config(config, origins, ranks);
    return config;
}

Config load_config(const std::string& path, const std::vector<Override>& overrides, int ranks) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        fail(ExitCode::kUsage, "{}: is a folder: expected a recipe file", path);
    std::ifstream file(path, std::ios::binary);
    if (!file)
        fail(errno == ENOENT ? ExitCode::kMissingInput : ExitCode::kIo, "cannot open recipe {}: {}", path,
             std::strerror(errno));
    std::string text(kMaxRecipeBytes + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad()) fail_io("cannot read recipe", path);
    text.resize(static_cast<size_t>(file.gcount()));
    return parse_config(text, path, overrides, ranks);
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
    Config defaults;
    Origins origins(config_fields().size());
    apply_preset(defaults, origins);
    std::string text;
    for (const Field& field : config_fields()) {
        text += fmt::format("  {:<24} {:<10} {}", field.path(),
                            origin_of(origins, field).source == Origin::Source::kPreset
                                ? "preset"
                                : value_text(field, defaults),
                            field.doc);
        if (!field.choices.empty()) text += fmt::format(" [{}]", fmt::join(field.choices, "|"));
        text += '\n';
    }
    return text;
}

}  // namespace pastur
