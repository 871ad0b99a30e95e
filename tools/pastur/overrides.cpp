#include "tools/pastur/overrides.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/config/nearest_name.h"
#include "engine/io/console.h"
#include "engine/model/recipe.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// "--train.lr" of "--train.lr=1e-3"; empty if the argument is not an override.
std::string override_name(const std::string& argument) {
    const std::string name = argument.substr(0, argument.find('='));
    const bool dashes = name.size() > 2 && name.compare(0, 2, "--") == 0 && name[2] != '-';
    return dashes && name.find('.') != std::string::npos ? name : "";
}

std::vector<std::string> option_names(const CLI::App& command) {
    std::vector<std::string> names;
    for (const CLI::Option* option : command.get_options())
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    return names;
}

/// `; did you mean "--help"?`, or where to look if no option is near. For a command that takes overrides, "--lr"
/// suggests --train.lr.
std::string suggest_option(const CLI::App& command, const std::string& command_name,
                           const std::string& name) {
    std::string nearest = nearest_name(name, option_names(command));
    int fewest = edit_distance(name, nearest);
    bool near = is_near(fewest, nearest);
    const std::string bare = name.substr(std::min(name.size(), name.find_first_not_of('-')));
    if (command.get_allow_extras())
        for (const Field& field : config_fields()) {
            const int distance = name_distance(bare, field.key);
            if (distance >= fewest) continue;
            fewest = distance;
            near = is_near(distance, field.key);
            nearest = "--" + field.path() + "=value";
        }
    if (!near) return fmt::format(" (see `{} --help`)", command_name);
    return fmt::format("; did you mean \"{}\"?", nearest);
}

}  // namespace

std::string full_name(const CLI::App& command) {
    const CLI::App* parent = command.get_parent();
    return parent ? full_name(*parent) + " " + command.get_name() : command.get_name();
}

std::vector<std::string> subcommand_names(const CLI::App& command) {
    std::vector<std::string> names;
    for (const CLI::App* sub : command.get_subcommands([](const CLI::App*) { return true; }))
        names.push_back(sub->get_name());
    return names;
}

std::vector<std::string> gather_overrides(const std::vector<std::string>& arguments) {
    std::vector<std::string> plain, overrides;
    for (size_t i = 0; i < arguments.size(); ++i) {
        const std::string& argument = arguments[i];
        const std::string name = override_name(argument);
        if (name.empty()) {
            plain.push_back(argument);
        } else if (name.size() < argument.size()) {
            overrides.push_back(argument);
        } else {
            const bool has_value = i + 1 < arguments.size() && arguments[i + 1].compare(0, 2, "--") != 0;
            if (!has_value) fail(ExitCode::kUsage, "{}: expected {}=value", name, name);
            overrides.push_back(name + "=" + arguments[++i]);
        }
    }
    plain.insert(plain.end(), overrides.begin(), overrides.end());
    return plain;
}

std::vector<Override> overrides_of(const CLI::App& command) {
    std::vector<Override> overrides;
    for (const std::string& argument : command.remaining()) {
        const std::string name = override_name(argument);
        if (name.empty()) fail_unknown(command, argument);
        overrides.emplace_back(name.substr(2), argument.substr(name.size() + 1));
    }
    return overrides;
}

Config load_recipe(const std::string& path, const std::vector<Override>& overrides, int ranks, int rank) {
    std::vector<std::string> ignored;
    const Config config = load_config(path, overrides, ranks, &ignored);
    if (rank == 0) report_ignored(ignored);
    return config;
}

void report_ignored(const std::vector<std::string>& lines) {
    for (const std::string& line : lines) Console::err().write(fmt::format("pastur: {}\n", line));
}

void fail_unknown(const CLI::App& command, const std::string& argument) {
    const std::string name = argument.substr(0, argument.find('='));
    const std::string command_name = full_name(command);
    if (!override_name(argument).empty())
        fail(ExitCode::kUsage, "`{}` does not take --section.key=value: {}", command_name, argument);
    if (argument.size() > 1 && argument[0] == '-')
        fail(ExitCode::kUsage, "`{}`: unknown option \"{}\"{}", command_name, name,
             suggest_option(command, command_name, name));
    const std::vector<std::string> commands = subcommand_names(command);
    if (commands.empty()) fail(ExitCode::kUsage, "`{}`: unexpected argument \"{}\"", command_name, argument);
    fail(ExitCode::kUsage, "`{}`: unknown command \"{}\"; did you mean \"{}\"?", command_name, name,
         nearest_name(name, commands));
}

}  // namespace pastur
