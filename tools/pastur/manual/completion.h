#pragma once
// Completion scripts for shells: commands, options, recipes, keys of the recipe and their values.
#include <string>

#include "tools/pastur/manual/command_table.h"

namespace pastur {

std::string bash_completion(const CommandRow& program);
std::string zsh_completion(const CommandRow& program);
std::string fish_completion(const CommandRow& program);

/// The text as one word of a shell.
std::string shell_word(const std::string& text);

/// The first clause of a description, for a menu: at most 72 characters, without a full stop.
std::string brief(const std::string& description);

}  // namespace pastur
