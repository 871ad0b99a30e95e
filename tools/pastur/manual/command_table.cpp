#include "tools/pastur/manual/command_table.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <regex>
#include <sstream>

#include "engine/model/recipe.h"
#include "tools/pastur/overrides.h"

namespace pastur {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
    return parts;
}

/// The words of "auto|mpi|nccl"; empty if the text is not such a list.
std::vector<std::string> words_of_type(const std::string& type) {
    static const std::regex list("[a-z0-9]+(\\|[a-z0-9]+)+");
    return std::regex_match(type, list) ? split(type, '|') : std::vector<std::string>();
}

/// The words of "auto, cpu or cuda: ..."; empty if the description does not begin with such a list.
std::vector<std::string> words_of_description(const std::string& text) {
    static const std::regex list("^([a-z0-9]+)((?:, [a-z0-9]+)*) or ([a-z0-9]+)(?=$|[ :;,(])");
    std::smatch found;
    if (!std::regex_search(text, found, list)) return {};
    std::vector<std::string> words = {found[1]};
    for (const std::string& word : split(found[2], ','))
        if (!word.empty()) words.push_back(word.substr(1));
    words.push_back(found[3]);
    return words;
}

/// Choices of the configuration key that an option is named after: --mp-variance, --nulls, --variants.
std::vector<std::string> words_of_key(const std::string& option) {
    if (option == "--variants") return find_field("attention", "variant")->choices;
    std::string key = option.substr(std::min<size_t>(2, option.size()));
    std::replace(key.begin(), key.end(), '-', '_');
    for (const Field& field : config_fields())
        if (!field.choices.empty() && field.key == key) return field.choices;
    return {};
}

ValueKind kind_of(const std::string& type) {
    const auto has = [&](const char* part) { return type.find(part) != std::string::npos; };
    if (has(".toml")) return ValueKind::kRecipes;
    if (has("DIR") || has("RUN") || has("CHECKPOINT")) return ValueKind::kFolders;
    return has("FILE") || has("PATH") || has("TEXT") ? ValueKind::kFiles : ValueKind::kNone;
}

/// "INT in [1 - 1024]" as "from 1 to 1024".
std::string expected_of(const std::string& validator) {
    static const std::regex range("in \\[([^ ]+) - ([^\\]]+)\\]");
    std::smatch found;
    if (std::regex_search(validator, found, range))
        return fmt::format("from {} to {}", found[1].str(), found[2].str());
    if (validator.find("NONNEGATIVE") != std::string::npos) return "0 or more";
    return validator.find("POSITIVE") != std::string::npos ? "above 0" : "";
}

OptionRow row_of(const CLI::Option& option) {
    OptionRow row;
    const std::string type = option.get_type_name();
    const size_t colon = std::min(type.find(':'), type.size());
    row.value = type.substr(0, colon);
    const std::string validator = type.substr(std::min(type.size(), colon + 1));
    row.description = option.get_description();
    row.initial = option.get_default_str();
    row.is_required = option.get_required();
    row.is_positional = option.get_positional();
    row.repeats = option.get_items_expected_max() > 1;
    row.expected = expected_of(validator);
    for (const std::string& name : option.get_snames()) row.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) row.names.push_back("--" + name);
    if (row.is_positional) {
        const bool plain = row.value.empty() || row.value == "TEXT";
        if (row.value.size() > 3 && row.value.ends_with("...")) row.value.resize(row.value.size() - 3);
        row.names = {plain ? option.get_name(true) : row.value};
    }
    if (option.get_items_expected_max() == 0) row.value.clear();
    if (row.value.empty()) return row;
    if (validator.starts_with('{')) row.choices = split(validator.substr(1, validator.find('}') - 1), ',');
    if (row.choices.empty()) row.choices = words_of_type(row.value);
    if (row.choices.empty() && row.value == "TEXT") row.choices = words_of_description(row.description);
    if (row.choices.empty()) row.choices = words_of_key(row.names.back());
    row.is_list = option.get_delimiter() == ',' || row.value.find(',') != std::string::npos;
    if (row.value == "TEXT" && !row.choices.empty())
        row.value = fmt::format("{}", fmt::join(row.choices, "|"));
    if (row.choices.empty()) row.kind = kind_of(row.value);
    return row;
}

}  // namespace

namespace {

CommandRow row_of(const CLI::App& app) {
    CommandRow row{full_name(app), app.get_description(), app.get_footer(), app.get_allow_extras()};
    for (const CLI::Option* option : app.get_options()) row.options.push_back(row_of(*option));
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
        row.commands.push_back(row_of(*sub));
    return row;
}

}  // namespace

CommandRow command_table(const CLI::App& app) {
    CommandRow table = row_of(app);
    std::vector<std::string> names;
    for (const CommandRow& command : table.commands) names.push_back(command.short_name());
    for (CommandRow& command : table.commands)
        for (OptionRow& option : command.options)
            if (option.names.front() == "COMMAND") option.choices = names;
    return table;
}

std::vector<const CommandRow*> all_commands(const CommandRow& row) {
    std::vector<const CommandRow*> rows = {&row};
    for (const CommandRow& command : row.commands)
        for (const CommandRow* below : all_commands(command)) rows.push_back(below);
    return rows;
}

}  // namespace pastur
