// pastur report: an HTML page of one or several runs, once or as long as they go on.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "engine/train/stop_request.h"
#include "kernels/base/error.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/report/watched_runs.h"
#include "tools/pastur/time_limit.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

struct ReportArguments {
    std::vector<std::string> runs;
    std::string out, watch;
    ReportText text;
};

void print_written(const fs::path& out, size_t runs) {
    print_text("{}: {:.2f} MB, {} run{}\n", printable(out.string()),
               static_cast<double>(fs::file_size(out)) / 1e6, runs, runs == 1 ? "" : "s");
    std::fflush(stdout);
}

/// Seconds between two looks at the runs.
double seconds_between(const ReportArguments& arguments) {
    const double seconds =
        parse_time_limit(arguments.watch, "--watch " + arguments.watch + " (give the run folders before it)");
    if (seconds < 1) fail(ExitCode::kUsage, "--watch {}: expected at least one second", arguments.watch);
    return seconds;
}

/// Writes the page whenever the runs have changed, until all have ended or a signal stops it, which writes a last
/// page that does not reload itself. A file that another process is just replacing is read at the next look.
class PageWriter {
  public:
    PageWriter(WatchedRuns& runs, fs::path out, const ReportText& text, double seconds)
        : runs_(runs), out_(std::move(out)), text_(text), seconds_(seconds) {}

    void run() {
        for (;;) {
            const bool last = runs_.unfinished() == 0 || stop_signals() > 0;
            if (write(last) && last) return;
            if (last && ++failures_ > kMostFailures) fail(failure_.code(), "{}", failure_.what());
            wait(last ? 1 : seconds_);
            runs_.refresh();
        }
    }

  private:
    static constexpr int kMostFailures = 3;

    /// False if a file could not be read. Runs that have not begun make no page.
    bool write(bool last) {
        if (runs_.folders().empty()) {
            say(fmt::format("waiting for {} run{} to begin\n", runs_.unfinished(),
                            runs_.unfinished() == 1 ? "" : "s"));
            return true;
        }
        if (!last && runs_.fingerprint() == written_) return true;
        ReportText text = runs_.describe(text_);
        text.reload_s = last ? 0 : seconds_;
        try {
            write_report(runs_.folders(), out_, text);
        } catch (const Error& error) {
            if (error.code() != ExitCode::kMissingInput && error.code() != ExitCode::kCorruptData) throw;
            failure_ = error;
            say(fmt::format("not written now: {}\n", error.what()));
            return false;
        }
        written_ = runs_.fingerprint();
        if (!began_) print_written(out_, runs_.folders().size());
        if (!began_ && !last)
            say(fmt::format(
                "rewriting it at most every {:.0f} s until {} unfinished run{} end; Ctrl-C stops\n", seconds_,
                runs_.unfinished(), runs_.unfinished() == 1 ? "" : "s"));
        if (began_ && last) print_written(out_, runs_.folders().size());
        began_ = true;
        return true;
    }

    void wait(double seconds) const {
        using Clock = std::chrono::steady_clock;
        const auto end = Clock::now() + std::chrono::duration<double>(seconds);
        const int signals = stop_signals();
        while (Clock::now() < end && stop_signals() == signals)
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }

    /// Prints a line unless it was the last one.
    void say(const std::string& line) {
        if (line != said_) print_text("{}", line);
        std::fflush(stdout);
        said_ = line;
    }

    WatchedRuns& runs_;
    fs::path out_;
    ReportText text_;
    double seconds_;
    bool began_ = false;
    int failures_ = 0;
    std::string written_, said_;
    Error failure_{ExitCode::kIo, ""};
};

int report(const ReportArguments& arguments) {
    const bool watches = !arguments.watch.empty();
    const double seconds = watches ? seconds_between(arguments) : 0;
    const std::vector<fs::path> paths(arguments.runs.begin(), arguments.runs.end());
    const fs::path out = !arguments.out.empty() ? fs::path(arguments.out)
                         : paths.size() == 1    ? paths.front() / "report.html"
                                                : fs::path("report.html");
    if (watches) {
        install_signal_handlers();
        WatchedRuns runs(paths);
        PageWriter(runs, out, arguments.text, seconds).run();
    } else if (std::any_of(paths.begin(), paths.end(), is_study_folder)) {
        const WatchedRuns runs(paths);
        if (runs.folders().empty())
            fail(ExitCode::kMissingInput, "{}: none of its runs has begun", paths.front().string());
        write_report(runs.folders(), out, runs.describe(arguments.text));
        print_written(out, runs.folders().size());
    } else {
        write_report(paths, out, arguments.text);
        print_written(out, paths.size());
    }
    return 0;
}

}  // namespace

void add_report_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "report", "One self-contained HTML page of one or several runs: losses, spectra, speed, recipes");
    const auto arguments = std::make_shared<ReportArguments>();
    command->add_option("runs", arguments->runs, "Run folders, or the folder of a study for all its runs")
        ->required()
        ->type_name("RUN_DIR...");
    command
        ->add_option("-o,--out", arguments->out,
                     "The page (default: report.html in the run's folder, or here for several runs)")
        ->type_name("FILE");
    command
        ->add_option("--watch", arguments->watch,
                     "Look at the runs every SECONDS and write the page again when they have changed, "
                     "until all have ended; the page reloads itself meanwhile. Runs may have yet to begin")
        ->expected(0, 1)
        ->default_str("30")
        ->type_name("[SECONDS]");
    command->add_option("--title", arguments->text.title, "Heading of the page (default: its question)")
        ->type_name("TEXT");
    command->add_option("--notes", arguments->text.notes, "Notes for the page, beside run.notes of the runs")
        ->type_name("TEXT");
    command->callback([arguments, &run] { run = [arguments] { return report(*arguments); }; });
}

}  // namespace pastur
