#pragma once
// The command line as a table, from which manual pages and shell completion are written.
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace pastur {

/// What a shell offers for a value that is not one of a few words.
enum class ValueKind { kNone, kFolders, kFiles, kRecipes };

/// An option or a positional argument.
struct OptionRow {
    std::vector<std::string>
        names;  ///< "-o", "--out"; of a positional argument its placeholder: "RECIPE.toml"
    std::string description;
    std::string value;     ///< placeholder, such as "DIR" or "auto|cpu|cuda"; empty: a flag
    std::string initial;   ///< the default as text; empty: none
    std::string expected;  ///< "from 1 to 1024"; empty: nothing to say
    std::vector<std::string> choices = {};
    bool is_list = false;  ///< several choices, separated by commas
    bool is_positional = false;
    bool is_required = false;
    bool repeats = false;
    ValueKind kind = ValueKind::kNone;
};

struct CommandRow {
    std::string name;  ///< with its parents: "pastur data prepare"
    std::string description, footer;
    bool takes_overrides = false;  ///< --section.key=value
    std::vector<OptionRow> options = {};
    std::vector<CommandRow> commands = {};

    /// The last word of the name.
    std::string short_name() const { return name.substr(name.rfind(' ') + 1); }
};

/// The table of `app` and its subcommands. Choices come from CLI::IsMember, a type name such as "auto|mpi", a
/// description that begins with a list such as "auto, cpu or cuda", or the configuration key of the same name.
CommandRow command_table(const CLI::App& app);

/// `row` and all commands below it.
std::vector<const CommandRow*> all_commands(const CommandRow& row);

}  // namespace pastur
