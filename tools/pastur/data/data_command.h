#pragma once
#include <CLI/CLI.hpp>
#include <functional>

namespace pastur {

/// `pastur data` with its subcommands prepare, synth and info. The chosen one's callback stores in `run` what
/// main calls; the result is the exit code.
void add_data_commands(CLI::App& app, std::function<int()>& run);

void add_data_prepare(CLI::App& data, std::function<int()>& run);
void add_data_synth(CLI::App& data, std::function<int()>& run);
void add_data_info(CLI::App& data, std::function<int()>& run);

}  // namespace pastur
