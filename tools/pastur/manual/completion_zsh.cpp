// Completion for zsh: a function of the name _pastur in $fpath.
#include <fmt/format.h>

#include <algorithm>

#include "tools/pastur/manual/completion.h"
#include "tools/pastur/manual/key_table.h"

namespace pastur {

std::string shell_word(const std::string& text) {
    std::string word = "'";
    for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return word + "'";
}

std::string brief(const std::string& description) {
    constexpr size_t kMost = 72;
    std::string text = description.substr(0, description.find_first_of(";\n"));
    while (!text.empty() && (text.back() == '.' || text.back() == ' ')) text.pop_back();
    if (text.size() <= kMost) return text;
    text.resize(kMost - 4);
    text.resize(std::min(text.size(), text.rfind(' ')));
    return text + " ...";
}

namespace {

constexpr const char* kRecipes = R"sh(
_pastur_recipes() {
    local -a recipes
    recipes=(${(f)"$(_call_program recipes ${(q)_pastur_program:-pastur} help --recipes 2>/dev/null)"})
    _alternative 'recipes:recipe:compadd -a recipes' 'files:file:_files'
}
)sh";

/// In a specification of _arguments the characters :[] and the backslash have a meaning.
std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text)
        out += std::string_view(":[]\\").find(c) == std::string_view::npos ? std::string(1, c)
                                                                           : std::string("\\") + c;
    return out;
}

/// The words of a specification's action, one of several by commas if `is_list`.
std::string action_of(const std::vector<std::string>& choices, bool is_list) {
    const std::string words = fmt::format("{}", fmt::join(choices, " "));
    return is_list ? fmt::format("_values -s , value {}", words) : "(" + words + ")";
}

std::string action_of(const OptionRow& option) {
    if (!option.choices.empty()) return action_of(option.choices, option.is_list);
    switch (option.kind) {
        case ValueKind::kFolders:
            return "_files -/";
        case ValueKind::kFiles:
            return "_files";
        case ValueKind::kRecipes:
            return "_pastur_recipes";
        case ValueKind::kNone:
            break;
    }
    return " ";
}

std::string specification(const OptionRow& option, const std::string& name) {
    const std::string what = escaped(option.value.empty() ? name : option.value);
    if (option.is_positional)
        return fmt::format("{}{}:{}", option.repeats ? "*:" : ":", what, action_of(option));
    std::string text = fmt::format("{}{}", option.repeats ? "*" : "", name);
    if (!option.value.empty() && name.starts_with("--")) text += '=';
    text += fmt::format("[{}]", escaped(brief(option.description)));
    return option.value.empty() ? text : fmt::format("{}:{}:{}", text, what, action_of(option));
}

std::string specification(const KeyRow& row) {
    const std::string action = !row.choices.empty() ? action_of(row.choices, row.is_list)
                               : row.is_folder      ? "_files -/"
                                                    : " ";
    return fmt::format("*--{}=[{}]:{}:{}", row.path(), escaped(brief(row.description)), escaped(row.key),
                       action);
}

std::string function_name(const CommandRow& command) {
    std::string name = "_" + command.name;
    std::replace(name.begin(), name.end(), ' ', '_');
    return name == "_pastur" ? "_pastur_main" : name;
}

std::string line(const std::string& word) {
    return "        " + shell_word(word) + "\n";
}

std::string function_of(const CommandRow& command) {
    std::string text = function_name(command) + "() {\n    local -a specifications=(\n";
    for (const OptionRow& option : command.options) {
        if (option.is_positional) text += line(specification(option, option.names.front()));
        for (const std::string& name : option.names)
            if (!option.is_positional) text += line(specification(option, name));
    }
    text += "    )\n";
    if (command.takes_overrides) text += "    specifications+=($_pastur_keys)\n";
    if (command.commands.empty()) return text + "    _arguments -s -S $specifications\n}\n";
    text += "    local -a commands=(\n";
    for (const CommandRow& sub : command.commands)
        text += line(sub.short_name() + ":" + escaped(brief(sub.description)));
    text +=
        "    )\n    local curcontext=$curcontext state line\n"
        "    _arguments -C $specifications '1: :->command' '*:: :->rest'\n"
        "    case $state in\n"
        "        command) _describe -t commands command commands ;;\n"
        "        rest)\n            case $words[1] in\n";
    for (const CommandRow& sub : command.commands)
        text += fmt::format("                {}) {} ;;\n", sub.short_name(), function_name(sub));
    return text + "            esac\n            ;;\n    esac\n}\n";
}

}  // namespace

std::string zsh_completion(const CommandRow& program) {
    std::string text =
        "#compdef pastur\n# Completion of pastur's command line in zsh, written by `pastur help --completion zsh`.\n";
    text += kRecipes;
    text += "local -a _pastur_keys=(\n";
    for (const KeyRow& row : key_table()) text += line(specification(row));
    text += ")\nlocal _pastur_program=$words[1]\n";
    for (const CommandRow* command : all_commands(program)) text += function_of(*command);
    return text + "_pastur_main \"$@\"\n";
}

}  // namespace pastur
