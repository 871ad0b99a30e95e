// The command line: runs a subcommand and turns every failure into one line and an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <thread>

#include "engine/io/console.h"
#include "engine/ranks/launch.h"
#include "engine/train/environment.h"
#include "kernels/base/error.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/data/data_command.h"
#include "tools/pastur/early_start.h"
#include "tools/pastur/failure.h"
#include "tools/pastur/manual/help_command.h"
#include "tools/pastur/overrides.h"

namespace pastur {
namespace {

/// CLI11 writes "..." behind every option that may be repeated, as if more values could follow one option.
class HelpFormatter : public CLI::Formatter {
  public:
    std::string make_option_opts(const CLI::Option* option) const override {
        constexpr std::string_view more = " ...";
        std::string text = CLI::Formatter::make_option_opts(option);
        const bool takes_one = !option->get_allow_extra_args() || option->get_type_name().ends_with("...");
        if (const size_t at = text.find(more); takes_one && at != std::string::npos)
            text.erase(at, more.size());
        return text;
    }
};

/// The innermost subcommand that the arguments name.
const CLI::App& chosen_command(const CLI::App& app) {
    const CLI::App* command = &app;
    while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
    return *command;
}

/// Help and version print themselves and are not failures. An unknown argument is reported before anything
/// that CLI11 found missing because of it.
int explain_parse_error(const CLI::App& app, const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const CLI::App& command = chosen_command(app);
    for (const CLI::App* level = &command; level; level = level->get_parent()) {
        if (level->get_allow_extras()) {
            overrides_of(*level);
        } else if (const std::vector<std::string> unknown = level->remaining(); !unknown.empty()) {
            fail_unknown(*level, unknown.front());
        }
    }
    if (const auto commands = subcommand_names(command); !commands.empty())
        fail(ExitCode::kUsage, "`{}`: expected a command: {} (see `{} --help`)", full_name(command),
             fmt::join(commands, ", "), full_name(command));
    std::string text = error.what();
    if (const size_t newline = text.find('\n'); newline != std::string::npos) text.resize(newline);
    fail(ExitCode::kUsage, "{} (see `{} --help`)", text, full_name(command));
}

int run_command_line(const std::vector<std::string>& arguments) {
    CLI::App app("Pretrains transformers with latent attention and measures their query-key spectra.",
                 "pastur");
    app.formatter(std::make_shared<HelpFormatter>());
    app.set_version_flag("--version", describe_version);
    app.require_subcommand(1);
    std::function<int()> run;
    add_train_command(app, run);
    add_plan_command(app, run);
    add_eval_command(app, run);
    add_generate_command(app, run);
    add_bench_command(app, run);
    add_spectra_command(app, run);
    add_verify_command(app, run);
    add_doctor_command(app, run);
    add_export_command(app, run);
    add_import_command(app, run);
    add_convert_command(app, run);
    add_compare_command(app, run);
    add_study_command(app, run);
    add_report_command(app, run);
    add_data_commands(app, run);
    add_help_command(app, run);

    std::vector<std::string> reversed = gather_overrides(arguments);
    std::reverse(reversed.begin(), reversed.end());  // CLI11 takes them from the back
    try {
        app.parse(std::move(reversed));
    } catch (const CLI::ParseError& error) {
        return explain_parse_error(app, error);
    }
    return run();
}

/// Fails if `pastur ... > file` could not be written, such as on a full disk.
int check_output(int code) {
    const bool printed = std::cout.flush() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    const int why = errno;
    Console::out().keep_status();
    Console::out().flush();
    const int error = printed ? Console::out().error() : why;
    // Only `train` ignores SIGPIPE. Its results are complete even if its output is no longer read.
    if (code != 0 || error == EPIPE || (printed && error == 0)) return code;
    errno = error;
    fail_io("cannot write", "standard output");
}

int report(const Failure& failure) {
    std::string line = failure.text;
    std::replace(line.begin(), line.end(), '\n', ' ');
    // Ranks that mpirun or srun started fail alike here, such as on a misspelt option: rank 0 prints the line and
    // its exit code makes the launcher end the others.
    if (const int rank = rank_of_merged_output(); rank > 0) {
        std::this_thread::sleep_for(std::chrono::seconds(5));
        line = fmt::format("rank {}: {}", rank, line);
    }
    Console::report_error(line);
    return static_cast<int>(failure.code);
}

}  // namespace
}  // namespace pastur

int main(int argc, char** argv) {
    pastur::finish_early_start();
    try {
        return pastur::check_output(pastur::run_command_line({argv + 1, argv + argc}));
    } catch (const std::exception&) {
        return pastur::report(pastur::current_failure());
    }
}
