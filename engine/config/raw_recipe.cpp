#include "engine/config/raw_recipe.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/config/config_text.h"
#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using Fields = std::span<const Field>;

std::vector<std::string> section_names(Fields fields) {
    std::vector<std::string> names;
    for (const Field& field : fields)
        if (names.empty() || names.back() != field.section) names.emplace_back(field.section);
    return names;
}

std::vector<std::string> key_names(Fields fields, std::string_view section) {
    std::vector<std::string> names;
    for (const Field& field : fields)
        if (field.section == section) names.emplace_back(field.key);
    return names;
}

/// `; did you mean "lr"?`, or the section that has the key, since a key in the wrong section is the likelier
/// mistake.
std::string suggest_key(Fields fields, std::string_view section, std::string_view key) {
    for (const Field& field : fields)
        if (field.key == key) return fmt::format("; \"{}\" belongs to [{}]", key, field.section);
    const std::vector<std::string> keys = key_names(fields, section);
    const std::string nearest = nearest_name(key, keys);
    // A name that shares too little with every key is answered with all of them.
    if (!is_near(name_distance(key, nearest), nearest))
        return fmt::format("; its keys are {}", fmt::join(keys, ", "));
    return fmt::format("; did you mean \"{}\"?", nearest);
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

/// Reads a value of the recipe; false if it has another type. An integer is also a number, but not the
/// reverse.
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

/// Reads a list in TOML: [0, 10, 20].
template <typename T>
bool read_toml_list(T& out, const std::string& text) {
    try {
        const toml::table table = toml::parse("list = " + text);
        return table.size() == 1 && read_value(out, *table.get("list"));
    } catch (const toml::parse_error&) {
        return false;
    }
}

/// Reads a value of the command line. Strings need no quotes, and lists only commas.
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

/// The first 60 characters of an offending value, on one line, for messages.
std::string shown(const toml::node& node) {
    std::ostringstream text;
    node.visit([&](const auto& value) { text << value; });
    std::string line = text.str().substr(0, 60);
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
}

template <typename Input>
void set_field(Config& config, const Field& field, const Input& input, const std::string& where) {
    const auto read = [&]<typename T>(T& out) {
        if (!read_value(out, input)) fail(ExitCode::kUsage, "{}: expected {}", where, kExpected<T>);
    };
    std::visit(
        [&](auto access) {
            using Access = decltype(access);
            if constexpr (std::is_same_v<Access, ChoiceAccess> ||
                          std::is_same_v<Access, std::string& (*)(Config&)>) {
                std::string text;
                read(text);
                set_text(field, config, text, where);
            } else if constexpr (std::is_same_v<Access, ChoiceListAccess>) {
                std::vector<std::string> texts;
                read(texts);
                set_texts(field, config, texts, where);
            } else {
                read(access(config));
                check_field(field, config, where);
            }
        },
        field.access);
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

/// The key that someone who wrote `name` outside every section may have meant.
const Field& nearest_field(Fields fields, const std::string& name) {
    return *std::min_element(fields.begin(), fields.end(), [&](const Field& a, const Field& b) {
        return name_distance(name, a.key) < name_distance(name, b.key);
    });
}

}  // namespace

const Field& RawRecipe::field(std::string_view section, std::string_view key) const {
    const Field* field = find_field(fields_, section, key);
    PASTUR_CHECK(field, "no configuration key {}.{}", section, key);
    return *field;
}

const Field& RawRecipe::field_or_fail(std::string_view section, std::string_view key,
                                      const std::string& where) const {
    if (const Field* field = find_field(fields_, section, key)) return *field;
    const std::vector<std::string> sections = section_names(fields_);
    if (std::find(sections.begin(), sections.end(), section) == sections.end())
        fail(ExitCode::kUsage, "{}: unknown section [{}]; did you mean [{}]?", where, section,
             nearest_name(section, sections));
    fail(ExitCode::kUsage, "{}: unknown key \"{}\" in [{}]{}", where, key, section,
         suggest_key(fields_, section, key));
}

bool RawRecipe::is_given(const Field& field) const {
    const Origin::Source source = origin(field).source;
    return source == Origin::Source::kRecipe || source == Origin::Source::kOverride;
}

std::string RawRecipe::describe(std::string_view section, std::string_view key) const {
    const Origin& from = origin(section, key);
    const std::string place = from.source == Origin::Source::kPreset    ? "preset " + config.model.preset
                              : from.source == Origin::Source::kDefault ? "default"
                                                                        : from.place;
    return fmt::format("{} = {} ({})", key, value_text(field(section, key), config), place);
}

void RawRecipe::read(const std::string& text, const std::string& where) {
    const std::vector<std::string> sections = section_names(fields_);
    const toml::table recipe = parse_toml(text, where);
    for (const auto& [name_key, node] : recipe) {
        const std::string place = fmt::format("{}:{}", where, name_key.source().begin.line);
        const std::string name(name_key.str());
        const bool known = std::find(sections.begin(), sections.end(), name) != sections.end();
        const toml::table* table = node.as_table();
        if (!table && known)
            fail(ExitCode::kUsage, "{}: {} = {}: expected a section, written [{}]", place, name, shown(node),
                 name);
        if (!table) {
            const Field& nearest = nearest_field(fields_, name);
            fail(ExitCode::kUsage, "{}: key \"{}\" stands outside every section; did you mean [{}] {}?",
                 place, name, nearest.section, nearest.key);
        }
        if (!known)
            fail(ExitCode::kUsage, "{}: unknown section [{}]; did you mean [{}]?", place, name,
                 nearest_name(name, sections));
        for (const auto& [key, value] : *table) {
            const std::string line = fmt::format("{}:{}", where, key.source().begin.line);
            const Field& field = field_or_fail(name, key.str(), line);
            set_field(config, field, value,
                      fmt::format("{}: [{}] {} = {}", line, name, key.str(), shown(value)));
            origin_of(field) = {Origin::Source::kRecipe, line};
        }
    }
}

void RawRecipe::apply(const Override& override) {
    const auto& [path, value] = override;
    const std::string where = fmt::format("--{}={}", path, value);
    const size_t dot = path.find('.');
    if (dot == std::string::npos) fail(ExitCode::kUsage, "{}: expected --section.key=value", where);
    const Field& field = field_or_fail(path.substr(0, dot), path.substr(dot + 1), where);
    set_field(config, field, value, where);
    // What cannot be read back from config.toml, such as bytes that are not UTF-8, is refused now.
    if (!toml_parses("value = " + value_text(field, config)))
        fail(ExitCode::kUsage, "{}: expected UTF-8 text", where);
    origin_of(field) = {Origin::Source::kOverride, "--" + path};
}

std::string read_recipe_file(const std::string& path) {
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
    return text;
}

}  // namespace pastur
