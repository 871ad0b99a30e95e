#pragma once
// --section.key=value among the arguments, which CLI11 does not know by name.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// Moves overrides behind all other arguments and writes each as `--section.key=value`, also where it came as
/// `--section.key value`: otherwise a positional argument would swallow the value. Throws (kUsage) when one
/// has none.
std::vector<std::string> gather_overrides(const std::vector<std::string>& arguments);

/// The overrides among what `command`, which allows extras, left unparsed, in their order. Anything else
/// there is an unknown argument: throws (kUsage).
std::vector<Override> overrides_of(const CLI::App& command);

/// load_config(). Rank 0 writes a line to standard error about each setting that is ignored.
Config load_recipe(const std::string& path, const std::vector<Override>& overrides, int ranks = 1,
                   int rank = 0);
/// Writes `lines`, the ignored settings of parse_config(), to standard error.
void report_ignored(const std::vector<std::string>& lines);

/// The names of its subcommands.
std::vector<std::string> subcommand_names(const CLI::App& command);
/// "pastur data prepare"
std::string full_name(const CLI::App& command);

/// Throws (kUsage) for an argument `command` does not know, naming the nearest option, subcommand or key it
/// does.
[[noreturn]] void fail_unknown(const CLI::App& command, const std::string& argument);

}  // namespace pastur
