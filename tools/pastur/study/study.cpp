// pastur study: every run of a design, one after the other or several at a time, and what they say together.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fnmatch.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/output.h"
#include "engine/io/logger.h"
#include "engine/train/stop_request.h"
#include "kernels/base/error.h"
#include "tools/pastur/analysis/analysis.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/overrides.h"
#include "tools/pastur/print.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/study/cell_runner.h"
#include "tools/pastur/study/cell_state.h"
#include "tools/pastur/study/study_json.h"
#include "tools/pastur/time_limit.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct StudyArguments {
    std::string design, out, device = "auto", max_time;
    DesignOptions options;
    std::vector<std::string> only, gpus;
    int64_t jobs = 0;  ///< 0: one per entry of --gpus, else 1
    bool list = false;
    std::vector<Override> overrides;
};

StudyDesign read_design(const StudyArguments& arguments) {
    if (!is_study_design(arguments.design))
        return design_from_recipe(arguments.design, arguments.options, arguments.overrides);
    if (!arguments.options.variants.empty() || !arguments.options.sets.empty() ||
        !arguments.options.seeds.empty())
        fail(ExitCode::kUsage,
             "{} is a design, which holds its own variants, seeds and arms: --variants, --seeds and "
             "--set belong to a recipe",
             arguments.design);
    return read_study_design(arguments.design, arguments.overrides);
}

bool is_chosen(const StudyCell& cell, const std::vector<std::string>& patterns) {
    return patterns.empty() || std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
               return ::fnmatch(pattern.c_str(), cell.name.c_str(), 0) == 0;
           });
}

/// The runs of a study with their states.
class Study {
  public:
    Study(StudyDesign design, fs::path out) : design_(std::move(design)), out_(std::move(out)) {
        for (const StudyCell& cell : design_.cells) {
            check_same_settings(out_, cell);
            states_[cell.name] = state_of(out_, cell);
        }
    }
    const StudyDesign& design() const { return design_; }
    const fs::path& out() const { return out_; }
    const CellState& state(const StudyCell& cell) const { return states_.at(cell.name); }
    void refresh(const std::string& name) {
        for (const StudyCell& cell : design_.cells)
            if (cell.name == name) states_[name] = state_of(out_, cell);
    }
    int64_t count(CellState::Status status) const {
        return std::count_if(states_.begin(), states_.end(),
                             [&](const auto& state) { return state.second.status == status; });
    }

    /// Seconds of training that are left, by the speed of the steps so far; NaN before the first.
    double seconds_left(const StudyCell& cell) const {
        const CellState& state = states_.at(cell.name);
        if (state.status == CellState::Status::kDone) return 0;
        double steps = 0, seconds = 0, same_steps = 0, same_seconds = 0;
        for (const StudyCell& other : design_.cells) {
            const CellState& known = states_.at(other.name);
            steps += static_cast<double>(known.step);
            seconds += known.elapsed_s;
            if (other.variant != cell.variant || other.arm != cell.arm) continue;
            same_steps += static_cast<double>(known.step);
            same_seconds += known.elapsed_s;
        }
        const double pace = same_steps > 0 ? same_seconds / same_steps : steps > 0 ? seconds / steps : NAN;
        return pace * static_cast<double>(std::max<int64_t>(0, state.steps - state.step));
    }
    double seconds_left() const {
        double sum = 0;
        for (const StudyCell& cell : design_.cells) sum += seconds_left(cell);
        return sum;
    }

    /// Writes study.json; returns it.
    nlohmann::ordered_json write_json() {
        std::map<std::string, std::string> errors;
        for (const StudyCell& cell : design_.cells) {
            const CellState& state = states_.at(cell.name);
            if (state.status == CellState::Status::kFailed) errors[cell.name] = state.error;
            if (state.status == CellState::Status::kDone && !finished_.contains(cell.name))
                read_finished(cell);
        }
        std::vector<RunStatistics> statistics;
        for (const StudyCell& cell : design_.cells)
            if (const auto found = statistics_.find(cell.name); found != statistics_.end())
                statistics.push_back(found->second);
        auto json = study_json(design_, finished_, errors, statistics);
        write_file_atomically(out_ / "study.json", readable_text(json));
        return json;
    }
    std::vector<fs::path> finished_folders() const {
        std::vector<fs::path> folders;
        for (const StudyCell& cell : design_.cells)
            if (states_.at(cell.name).status == CellState::Status::kDone)
                folders.push_back(cell_folder(out_, cell));
        return folders;
    }

  private:
    void read_finished(const StudyCell& cell) {
        RunSeries series;
        finished_[cell.name] =
            summarise_run(cell_folder(out_, cell), [&](const nlohmann::json& line) { series.add(line); });
        series.finish();
        RunStatistics& run = statistics_[cell.name];
        run.name = cell.name;
        run.variant = cell.variant;
        run.arm = cell.arm;
        run.val_loss = finished_[cell.name].val_loss;
        add_settings(run, cell.config);
        add_statistics(run, series);
    }

    StudyDesign design_;
    fs::path out_;
    std::map<std::string, CellState> states_;
    FinishedRuns finished_;
    std::map<std::string, RunStatistics> statistics_;  ///< of the finished runs
};

void print_list(const Study& study) {
    size_t width = 3;
    for (const StudyCell& cell : study.design().cells) width = std::max(width, cell.name.size());
    print_text("{:<{}}  {:<8} {:>15} {:>9} {:>9}\n", "run", width, "state", "step", "trained", "left");
    for (const StudyCell& cell : study.design().cells) {
        const CellState& state = study.state(cell);
        const double left = study.seconds_left(cell);
        print_text("{:<{}}  {:<8} {:>15} {:>9} {:>9}{}\n", cell.name, width, name_of(state.status),
                   fmt::format("{}/{}", state.step, state.steps), format_duration(state.elapsed_s),
                   std::isfinite(left) ? format_duration(left) : "-",
                   state.error.empty() ? "" : "  " + state.error);
    }
    const double left = study.seconds_left();
    print_text("{} of {} runs done{}\n", study.count(CellState::Status::kDone), study.design().cells.size(),
               std::isfinite(left) && left > 0
                   ? fmt::format(", about {} of training left", format_duration(left))
                   : "");
}

/// Trains the chosen cells that are not done. Returns whether a stop was requested.
class Session {
  public:
    Session(Study& study, const StudyArguments& arguments, double max_seconds)
        : study_(study),
          runner_(study.out(), arguments.device, arguments.gpus),
          slots_(static_cast<size_t>(arguments.jobs > 0 ? arguments.jobs
                                                        : std::max<int64_t>(1, std::ssize(arguments.gpus)))),
          max_seconds_(max_seconds) {
        for (const StudyCell& cell : study.design().cells)
            if (is_chosen(cell, arguments.only) && study.state(cell).status != CellState::Status::kDone)
                waiting_.push_back(&cell);
        std::reverse(waiting_.begin(), waiting_.end());
    }

    bool run() {
        while (!waiting_.empty() || runner_.running() > 0) {
            if (!stopping_ && stop_requested(study_.out())) stop();
            for (size_t slot = 0; slot < slots_ && !waiting_.empty() && !stopping_; ++slot)
                if (runner_.is_free(slot)) start(slot);
            if (stopping_) waiting_.clear();
            for (auto ended = runner_.poll(); ended.slot != SIZE_MAX; ended = runner_.poll()) finish(ended);
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
        return stopping_;
    }

  private:
    void stop() {
        stopping_ = true;
        print_text("stopping ({}): runs finish their step and write a checkpoint\n",
                   stop_reason(study_.out()));
        std::fflush(stdout);
        runner_.stop();
    }
    void start(size_t slot) {
        const StudyCell& cell = *waiting_.back();
        waiting_.pop_back();
        const double spent = std::chrono::duration<double>(Clock::now() - begin_).count();
        print_text("{}: {} at step {} of {}\n", cell.name, study_.state(cell).step > 0 ? "resumes" : "starts",
                   study_.state(cell).step, study_.state(cell).steps);
        std::fflush(stdout);
        runner_.start(cell, slot, max_seconds_ > 0 ? std::max(1.0, max_seconds_ - spent) : 0);
    }
    void finish(const CellRunner::Ended& ended) {
        study_.refresh(ended.cell);
        const auto& cells = study_.design().cells;
        const StudyCell& cell = *std::find_if(cells.begin(), cells.end(),
                                              [&](const StudyCell& one) { return one.name == ended.cell; });
        const CellState& state = study_.state(cell);
        std::string what = name_of(state.status);
        if (state.status == CellState::Status::kFailed)
            what += " with exit code " + std::to_string(ended.code) + ": " + state.error;
        if (ended.code != 0 && ended.code != static_cast<int>(ExitCode::kRequeue) && state.error.empty())
            what = state.status == CellState::Status::kRunning &&
                           ended.code == static_cast<int>(ExitCode::kUsage)
                       ? "is trained by another process"
                       : fmt::format("ended with {}", ended.code > 128
                                                          ? fmt::format("signal {}", ended.code - 128)
                                                          : fmt::format("exit code {}", ended.code));
        const double left = study_.seconds_left();
        print_text("{}: {}; {} of {} runs done{}\n", ended.cell, what, study_.count(CellState::Status::kDone),
                   cells.size(),
                   std::isfinite(left) && left > 0
                       ? fmt::format(", about {} of training left", format_duration(left))
                       : "");
        std::fflush(stdout);
        study_.write_json();
    }

    Study& study_;
    CellRunner runner_;
    size_t slots_;
    double max_seconds_;
    std::vector<const StudyCell*> waiting_;  ///< the next one last
    bool stopping_ = false;
    Clock::time_point begin_ = Clock::now();
};

int study(const StudyArguments& arguments) {
    const StudyDesign design = read_design(arguments);
    for (const std::string& pattern : arguments.only)
        if (std::none_of(design.cells.begin(), design.cells.end(),
                         [&](const StudyCell& cell) { return is_chosen(cell, {pattern}); }))
            fail(ExitCode::kUsage, "--only {}: no run of {} has such a name (see --list)", pattern,
                 design.name);
    Study study(design, arguments.out);
    if (arguments.list) {
        print_list(study);
        return 0;
    }
    double max_seconds = 0;
    if (!arguments.max_time.empty()) {
        max_seconds = parse_time_limit(arguments.max_time, "--max-time " + arguments.max_time);
        request_stop_after(max_seconds);
    }
    install_signal_handlers();
    fs::create_directories(study.out());
    const bool stopped = Session(study, arguments, max_seconds).run();
    const nlohmann::ordered_json json = study.write_json();
    const std::vector<fs::path> folders = study.finished_folders();
    print_text("\n{}\n{}\n", study_table(json), verdict_text(json.at("analysis")));
    print_text("{}: {} of {} runs\n", (study.out() / "study.json").string(), folders.size(),
               design.cells.size());
    if (stopped) {
        print_text("run the same command again to continue\n");
        return static_cast<int>(ExitCode::kRequeue);
    }
    if (!folders.empty()) {
        write_report(folders, study.out() / "report.html",
                     {study.design().title, study.design().notes, &json.at("analysis")});
        print_text("report: {}\n", (study.out() / "report.html").string());
    }
    if (const int64_t failed = study.count(CellState::Status::kFailed); failed > 0)
        fail(ExitCode::kOther, "{} of {} runs failed (see --list); their output is in {}", failed,
             design.cells.size(), (study.out() / "logs").string());
    return 0;
}

}  // namespace

void add_study_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "study",
        "Every run of a design (variants, seeds, arms), resumable, then their figures over seeds and a page");
    const auto arguments = std::make_shared<StudyArguments>();
    arguments->options.seeds.clear();
    command->add_option("design", arguments->design, "A design with a section [study], or a recipe")
        ->required()
        ->type_name("STUDY.toml|RECIPE.toml");
    command->add_option("-o,--out", arguments->out, "Folder of the study")->required()->type_name("DIR");
    command
        ->add_option("--variants", arguments->options.variants,
                     "With a recipe: attention variants (default: mha,mla-prerope,mla-decoupled)")
        ->delimiter(',')
        ->type_name("A,B,...");
    command
        ->add_option("--seeds", arguments->options.seeds,
                     "With a recipe: train.seed of the runs (default: 1)")
        ->delimiter(',')
        ->type_name("N,N,...");
    command
        ->add_option("--set", arguments->options.sets,
                     "With a recipe: section.key=v1,v2, runs with each value; several options combine")
        ->allow_extra_args(false)
        ->type_name("KEY=V,V");
    command->add_flag("--list", arguments->list, "Show every run's state and the time left, and exit");
    command
        ->add_option("--only", arguments->only,
                     "Train only runs whose names match this pattern, such as 'mha-*'")
        ->allow_extra_args(false)
        ->type_name("PATTERN");
    command
        ->add_option("--jobs", arguments->jobs,
                     "Runs at the same time (default: one per GPU of --gpus, else 1)")
        ->check(CLI::Range(int64_t{1}, int64_t{1024}))
        ->type_name("N");
    command->add_option("--gpus", arguments->gpus, "GPUs, each of which trains one run at a time")
        ->delimiter(',')
        ->type_name("0,1,...");
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command
        ->add_option(
            "--max-time", arguments->max_time,
            "After this long, checkpoint what runs and exit with 75: 1800 (seconds), 30m, 1h30m, 00:30:00")
        ->type_name("TIME");
    command->allow_extras();
    command->footer(
        "Any key of the recipe can be set for every run by --section.key=value.\n"
        "Run the same command again to continue. A run that fails is reported and passed over.");
    command->callback([command, arguments, &run] {
        arguments->overrides = overrides_of(*command);
        run = [arguments] { return study(*arguments); };
    });
}

}  // namespace pastur
