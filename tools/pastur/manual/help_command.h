#pragma once
#include <CLI/CLI.hpp>
#include <functional>

namespace pastur {

/// `pastur help [COMMAND]`: help on a command, its manual page, all pages as files, completion scripts for shells, and
/// the names of recipes. Add it after all other commands.
void add_help_command(CLI::App& app, std::function<int()>& run);

}  // namespace pastur
