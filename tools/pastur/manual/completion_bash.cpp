// Completion for bash, without the package bash-completion.
#include <fmt/format.h>

#include "tools/pastur/manual/completion.h"
#include "tools/pastur/manual/key_table.h"

namespace pastur {
namespace {

/// What comes after the tables. A value in _pastur_values is a list of words; before it stands ',' if several may be
/// joined by commas. '/' stands for a folder, '.' for a file, '@' for a recipe, and '-' for nothing to offer.
constexpr const char* kBody = R"sh(
# _pastur_offer WORDS CURRENT: those of the words that begin with CURRENT, whose part up to its last comma stays.
_pastur_offer() {
    local words=$1 current=$2 before=''
    if [[ $words == ,* ]]; then
        words=${words#,}
        [[ $current != *,* ]] || before=${current%,*},
    fi
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$words" -- "${current##*,}")
}

# _pastur_value KIND CURRENT: an option's value.
_pastur_value() {
    case $1 in
        /) mapfile -t COMPREPLY < <(compgen -d -- "$2") && compopt -o filenames 2>/dev/null ;;
        .) mapfile -t COMPREPLY < <(compgen -f -- "$2") && compopt -o filenames 2>/dev/null ;;
        @)
            local recipes
            recipes=$("${_pastur_program:-pastur}" help --recipes 2>/dev/null)
            mapfile -t COMPREPLY < <(compgen -W "$recipes" -- "$2"; compgen -f -- "$2")
            compopt -o filenames 2>/dev/null
            ;;
        -) ;;
        *) _pastur_offer "$1" "$2" ;;
    esac
    return 0
}

_pastur() {
    local line=${COMP_LINE:0:COMP_POINT} words=() command='' word current previous name i keys=''
    COMPREPLY=()
    # Bash breaks words at '=' too; here the line is broken at blanks alone.
    read -ra words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=('')
    local _pastur_program=${words[0]/#\~/$HOME}
    current=${words[-1]} previous=''
    for ((i = 1; i + 1 < ${#words[@]}; ++i)); do
        word=${words[i]}
        previous=$word
        [[ " ${_pastur_commands[pastur${command:+ $command}]:-} " != *" $word "* ]] ||
            command=${command:+$command }$word
    done
    command=pastur${command:+ $command}
    [[ -z ${_pastur_overrides[$command]:-} ]] || keys=1

    if [[ $current == --*=* ]]; then
        name=${current%%=*}
        word=${_pastur_values[$command $name]:-}
        [[ -n $word || -z $keys ]] || word=${_pastur_keys[${name#--}]:-}
        _pastur_value "${word:--}" "${current#*=}"
        # Where '=' does not break words, the whole word is replaced.
        [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=("${COMPREPLY[@]/#/$name=}")
    elif [[ $current != -* && -n ${_pastur_values[$command $previous]:-} ]]; then
        _pastur_value "${_pastur_values[$command $previous]}" "$current"
    elif [[ $current != -* && -n $keys && $previous == --*.* && $previous != *=* ]]; then
        word=${_pastur_keys[${previous#--}]:-}
        _pastur_value "${word:--}" "$current"
    elif [[ -n $keys && $current == --*.* ]]; then
        mapfile -t COMPREPLY < <(compgen -P -- -S = -W "${!_pastur_keys[*]}" -- "${current#--}")
        compopt -o nospace 2>/dev/null
    elif [[ $current == -* ]]; then
        _pastur_offer "${_pastur_options[$command]:-}" "$current"
        if [[ -n $keys ]]; then
            mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -P -- -S . -W "$_pastur_sections" -- "${current#--}")
            [[ ${COMPREPLY[*]} != *. ]] || compopt -o nospace 2>/dev/null
        fi
    elif [[ -n ${_pastur_commands[$command]:-} ]]; then
        _pastur_offer "${_pastur_commands[$command]}" "$current"
    else
        _pastur_value "${_pastur_values[$command]:-.}" "$current"
    fi
    return 0
}
complete -F _pastur pastur
)sh";

std::string value_of(const OptionRow& option) {
    if (!option.choices.empty())
        return fmt::format("{}{}", option.is_list ? "," : "", fmt::join(option.choices, " "));
    switch (option.kind) {
        case ValueKind::kFolders:
            return "/";
        case ValueKind::kFiles:
            return ".";
        case ValueKind::kRecipes:
            return "@";
        case ValueKind::kNone:
            break;
    }
    return "-";
}

std::string value_of(const KeyRow& row) {
    if (!row.choices.empty()) return fmt::format("{}{}", row.is_list ? "," : "", fmt::join(row.choices, " "));
    return row.is_folder ? "/" : "-";
}

/// The names of the commands one level below, as completed after `row`.
std::string command_words(const CommandRow& row) {
    std::string words;
    for (const CommandRow& command : row.commands) words += (words.empty() ? "" : " ") + command.short_name();
    return words;
}

std::string entry(const std::string& key, const std::string& value) {
    return fmt::format("    [{}]={}\n", shell_word(key), shell_word(value));
}

}  // namespace

std::string bash_completion(const CommandRow& program) {
    std::string options, commands, values, overrides, keys, sections;
    for (const CommandRow* command : all_commands(program)) {
        std::string names;
        for (const OptionRow& option : command->options) {
            if (option.is_positional) {
                values += entry(command->name, value_of(option));
                continue;
            }
            for (const std::string& name : option.names) {
                names += (names.empty() ? "" : " ") + name;
                if (!option.value.empty()) values += entry(command->name + " " + name, value_of(option));
            }
        }
        options += entry(command->name, names);
        if (!command->commands.empty()) commands += entry(command->name, command_words(*command));
        if (command->takes_overrides) overrides += entry(command->name, "1");
    }
    std::string section;
    for (const KeyRow& row : key_table()) {
        if (row.section != section) sections += (sections.empty() ? "" : " ") + row.section;
        section = row.section;
        keys += entry(row.path(), value_of(row));
    }
    return "# Completion of pastur's command line in bash, written by `pastur help --completion bash`.\n"
           "# shellcheck shell=bash\n"
           "declare -gA _pastur_options=(\n" +
           options + ")\ndeclare -gA _pastur_commands=(\n" + commands +
           ")\ndeclare -gA _pastur_overrides=(\n" + overrides + ")\ndeclare -gA _pastur_values=(\n" + values +
           ")\ndeclare -gA _pastur_keys=(\n" + keys + ")\n_pastur_sections=" + shell_word(sections) + "\n" +
           kBody;
}

}  // namespace pastur
