#pragma once
// Overrides --section.key=value among the arguments, which CLI11 does not know by name.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// Moves overrides behind all other arguments and writes each as `--section.key=value`, also if it was given
/// as `--section.key value`, whose value CLI11 would take for a positional argument. Throws (kUsage) for an
/// override without a value.
std::vector<std::string> gather_overrides(const std::vector<std::string>& arguments);

/// The overrides that `command`, which allows extras, left unparsed, in their order. Throws (kUsage) for any
/// other argument among them.
std::vector<Override> overrides_of(const CLI::App& command);

/// load_config(). Rank 0 writes a line to standard error about each setting that is ignored.
Config load_recipe(const std::string& path, const std::vector<Override>& overrides, int ranks = 1,
                   int rank = 0);
/// Writes `lines`, the ignored settings of parse_config(), to standard error.
void report_ignored(const std::vector<std::string>& lines);

/// The names of the command's subcommands.
std::vector<std::string> subcommand_names(const CLI::App& command);
/// The command with its parents: "pastur data prepare".
std::string full_name(const CLI::App& command);

/// Throws (kUsage) for an argument that `command` does not know, naming the nearest option, subcommand or
/// key.
[[noreturn]] void fail_unknown(const CLI::App& command, const std::string& argument);

}  // namespace pastur
