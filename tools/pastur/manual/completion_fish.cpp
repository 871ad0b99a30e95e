// Completion for fish.
#include <fmt/format.h>

#include "tools/pastur/manual/completion.h"
#include "tools/pastur/manual/key_table.h"

namespace pastur {
namespace {

constexpr const char* kHead =
    R"sh(# Completion of pastur's command line in fish, written by `pastur help --completion fish`.

# Prints the words of the line behind the program's name that are not options, one per line.
function __pastur_words
    set -l words (commandline -opc)
    for word in $words[2..-1]
        string match -q -- '-*' $word; or echo -- $word
    end
end

# Succeeds if the commands given are those of the line, in this order: `__pastur_at data prepare`.
function __pastur_at
    set -l found (__pastur_words)
    test (count $found) -ge (count $argv); and test "$found[1..$(count $argv)]" = "$argv"
end

# Succeeds if the command given is followed by no other yet: `__pastur_before data`.
function __pastur_before
    set -l found (__pastur_words)
    test "$found" = "$argv"
end

function __pastur_recipes
    set -l words (commandline -opc)
    $words[1] help --recipes 2>/dev/null
    __fish_complete_suffix .toml
end

# Lists joined by commas: the words that are given, after what stands before the last comma.
function __pastur_list
    set -l before (string match -r '^(?:--[^=]*=)?(.*,)' -- (commandline -ct))[2]
    for word in $argv
        echo $before$word
    end
end

complete -c pastur -f
)sh";

std::string quoted(const std::string& text) {
    std::string word = "'";
    for (const char c : text) word += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return word + "'";
}

std::string choices_argument(const std::vector<std::string>& choices, bool is_list) {
    const std::string words = fmt::format("{}", fmt::join(choices, " "));
    return " -x -a " + quoted(is_list ? "(__pastur_list " + words + ")" : words);
}

std::string value_arguments(const OptionRow& option) {
    if (option.value.empty()) return "";
    if (!option.choices.empty()) return choices_argument(option.choices, option.is_list);
    switch (option.kind) {
        case ValueKind::kFolders:
            return " -x -a '(__fish_complete_directories)'";
        case ValueKind::kFiles:
            return " -r -F";
        case ValueKind::kRecipes:
            return " -x -a '(__pastur_recipes)'";
        case ValueKind::kNone:
            break;
    }
    return " -x";
}

std::string condition_of(const CommandRow& command, const char* function) {
    const size_t space = command.name.find(' ');
    const std::string words = space == std::string::npos ? "" : command.name.substr(space);
    return " -n " + quoted(function + words);
}

std::string option_line(const CommandRow& command, const OptionRow& option) {
    std::string text = "complete -c pastur" +
                       condition_of(command, command.commands.empty() ? "__pastur_at" : "__pastur_before");
    for (const std::string& name : option.names) {
        if (option.is_positional) continue;
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    if (option.is_positional && option.kind == ValueKind::kFiles) return text + " -F\n";
    text += value_arguments(option);
    return option.is_positional ? text + "\n" : text + " -d " + quoted(brief(option.description)) + "\n";
}

std::string key_line(const CommandRow& command, const KeyRow& row) {
    std::string text = "complete -c pastur" + condition_of(command, "__pastur_at") + " -l " + row.path();
    if (!row.choices.empty())
        text += choices_argument(row.choices, row.is_list);
    else
        text += row.is_folder ? " -x -a '(__fish_complete_directories)'" : " -x";
    return text + " -d " + quoted(brief(row.description)) + "\n";
}

}  // namespace

std::string fish_completion(const CommandRow& program) {
    std::string text = kHead;
    for (const CommandRow* command : all_commands(program)) {
        for (const CommandRow& sub : command->commands)
            text += "complete -c pastur" + condition_of(*command, "__pastur_before") + " -a " +
                    sub.short_name() + " -d " + quoted(brief(sub.description)) + "\n";
        for (const OptionRow& option : command->options) text += option_line(*command, option);
        if (!command->takes_overrides) continue;
        for (const KeyRow& row : key_table()) text += key_line(*command, row);
    }
    return text;
}

}  // namespace pastur
