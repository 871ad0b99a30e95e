// pastur report: an HTML page of one or several runs.
#include <fmt/format.h>

#include <filesystem>

#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"
#include "tools/pastur/report/report_page.h"

namespace pastur {
namespace {

struct ReportArguments {
    std::vector<std::string> runs;
    std::string out;
    ReportText text;
};

int report(const ReportArguments& arguments) {
    const std::vector<std::filesystem::path> folders(arguments.runs.begin(), arguments.runs.end());
    const std::filesystem::path out = !arguments.out.empty() ? std::filesystem::path(arguments.out)
                                      : folders.size() == 1  ? folders.front() / "report.html"
                                                             : std::filesystem::path("report.html");
    write_report(folders, out, arguments.text);
    print_text("{}: {:.2f} MB, {} run{}\n", printable(out.string()),
               static_cast<double>(std::filesystem::file_size(out)) / 1e6, folders.size(),
               folders.size() == 1 ? "" : "s");
    return 0;
}

}  // namespace

void add_report_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "report", "One self-contained HTML page of one or several runs: losses, spectra, speed, recipes");
    const auto arguments = std::make_shared<ReportArguments>();
    command->add_option("runs", arguments->runs, "Run folders")->required()->type_name("RUN_DIR...");
    command
        ->add_option("-o,--out", arguments->out,
                     "The page (default: report.html in the run's folder, or here for several runs)")
        ->type_name("FILE");
    command->add_option("--title", arguments->text.title, "Heading of the page (default: its question)")
        ->type_name("TEXT");
    command->add_option("--notes", arguments->text.notes, "Notes for the page, beside run.notes of the runs")
        ->type_name("TEXT");
    command->callback([arguments, &run] { run = [arguments] { return report(*arguments); }; });
}

}  // namespace pastur
