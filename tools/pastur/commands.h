#pragma once
// The subcommands. Each function adds one to the command line. The chosen one's callback sets `run`, which
// main calls; its result is the exit code.
#include <CLI/CLI.hpp>
#include <functional>

namespace pastur {

/// `pastur train`; takes --section.key=value overrides (allow_extras() and overrides_of()).
void add_train_command(CLI::App& app, std::function<int()>& run);
/// `pastur plan`; takes --section.key=value overrides.
void add_plan_command(CLI::App& app, std::function<int()>& run);
/// `pastur eval`.
void add_eval_command(CLI::App& app, std::function<int()>& run);
/// `pastur generate`.
void add_generate_command(CLI::App& app, std::function<int()>& run);
/// `pastur bench`; takes --section.key=value overrides.
void add_bench_command(CLI::App& app, std::function<int()>& run);
/// `pastur spectra`.
void add_spectra_command(CLI::App& app, std::function<int()>& run);
/// `pastur compare`.
void add_compare_command(CLI::App& app, std::function<int()>& run);
/// `pastur verify`.
void add_verify_command(CLI::App& app, std::function<int()>& run);
/// `pastur doctor`.
void add_doctor_command(CLI::App& app, std::function<int()>& run);
/// `pastur export`.
void add_export_command(CLI::App& app, std::function<int()>& run);
/// `pastur import`.
void add_import_command(CLI::App& app, std::function<int()>& run);
/// `pastur convert`.
void add_convert_command(CLI::App& app, std::function<int()>& run);
/// `pastur study`; takes --section.key=value overrides.
void add_study_command(CLI::App& app, std::function<int()>& run);
/// `pastur report`.
void add_report_command(CLI::App& app, std::function<int()>& run);

}  // namespace pastur
