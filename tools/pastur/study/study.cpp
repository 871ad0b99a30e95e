// pastur study: every run of a design, one after the other or several at a time, and what they say together.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/io/logger.h"
#include "engine/train/stop_request.h"
#include "kernels/base/error.h"
#include "tools/pastur/analysis/analysis.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/overrides.h"
#include "tools/pastur/print.h"
#include "tools/pastur/recipe_files.h"
#include "tools/pastur/study/cell_slots.h"
#include "tools/pastur/study/study_arguments.h"
#include "tools/pastur/study/study_json.h"
#include "tools/pastur/study/study_runs.h"
#include "tools/pastur/study/study_session.h"
#include "tools/pastur/study/study_slurm.h"
#include "tools/pastur/time_limit.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

using Stage = StudyArguments::Stage;

StudyDesign read_file(const StudyArguments& arguments) {
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

/// The design with what the command line says over it.
StudyDesign read_design(const StudyArguments& arguments) {
    StudyDesign design = read_file(arguments);
    if (!arguments.title.empty()) design.title = arguments.title;
    if (!arguments.notes.empty()) design.notes = arguments.notes;
    give_data_options(design.data, arguments.inputs, arguments.tokenizer);
    for (const std::string& pattern : arguments.only)
        if (std::none_of(design.cells.begin(), design.cells.end(),
                         [&](const StudyCell& cell) { return is_chosen(cell, {pattern}); }))
            fail(ExitCode::kUsage, "--only {}: no run of {} has such a name (see --list)", pattern,
                 design.name);
    return design;
}

void print_list(const Study& study) {
    if (study.design().data)
        print_text("data: {}\n", data_state(study.out(), *study.design().data) == DataState::kReady
                                     ? "ready in " + data_folder(study.out()).string()
                                     : "to be made in " + data_folder(study.out()).string());
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

/// study.json and the page of the runs so far, also of those that other processes end meanwhile.
void write_results(Study& study, bool page) {
    nlohmann::ordered_json json;
    fs::path file;
    study.refresh();
    do {
        json = study.write_json();
        if (page) file = study.write_page(json);
    } while (study.refresh());
    print_text("\n{}\n{}\n{}: {} of {} runs\n", study_table(json), verdict_text(json.at("analysis")),
               (study.out() / "study.json").string(), study.count(CellState::Status::kDone),
               study.design().cells.size());
    if (!file.empty()) print_text("report: {}\n", file.string());
}

/// Makes the data and trains the runs, as the stage says. Returns whether a stop was requested.
bool make_runs(Study& study, const StudyArguments& arguments) {
    if (arguments.stage == Stage::kResults) return false;
    const CellSlots slots = arguments.stage == Stage::kData ? CellSlots{} : cell_slots(arguments);
    double max_seconds = 0;
    if (!arguments.max_time.empty()) {
        max_seconds = parse_time_limit(arguments.max_time, "--max-time " + arguments.max_time);
        request_stop_after(max_seconds);
    }
    if (study.design().data && !prepare_study_data(study.out(), *study.design().data)) {
        print_text("stopped ({}) before the data was complete\n", stop_reason(study.out()));
        return true;
    }
    if (arguments.stage == Stage::kData) return false;
    return StudySession(study, arguments, slots, max_seconds).run();
}

int study(const StudyArguments& arguments) {
    Study study(read_design(arguments), arguments.out);
    if (arguments.list) {
        print_list(study);
        return 0;
    }
    if (arguments.slurm) return submit_study(study, arguments);
    if (arguments.stage == Stage::kData && !study.design().data)
        fail(ExitCode::kUsage, "--stage data: {} makes no data: it has neither [data_prepare] nor --input",
             arguments.design);
    install_signal_handlers();
    fs::create_directories(study.out());
    const bool stopped = make_runs(study, arguments);
    if (arguments.stage == Stage::kAll || arguments.stage == Stage::kResults)
        write_results(study, /*page=*/!stopped);
    if (stopped) {
        print_text("run the same command again to continue\n");
        return static_cast<int>(ExitCode::kRequeue);
    }
    const auto& cells = study.design().cells;
    const auto failed = std::count_if(cells.begin(), cells.end(), [&](const StudyCell& cell) {
        return is_chosen(cell, arguments.only) && study.state(cell).status == CellState::Status::kFailed;
    });
    if (failed > 0)
        fail(ExitCode::kOther, "{} of {} runs failed (see --list); their output is in {}", failed,
             cells.size(), (study.out() / "logs").string());
    return 0;
}

/// What the study is made of, and what is said about it.
void add_design_options(CLI::App& command, StudyArguments& arguments) {
    command.add_option("design", arguments.design, "A design with a section [study], or a recipe")
        ->required()
        ->type_name("STUDY.toml|RECIPE.toml");
    command.add_option("-o,--out", arguments.out, "Folder of the study")->required()->type_name("DIR");
    command
        .add_option("--variants", arguments.options.variants,
                    "With a recipe: attention variants (default: mha,mla-prerope,mla-decoupled)")
        ->delimiter(',')
        ->type_name("A,B,...");
    command
        .add_option("--seeds", arguments.options.seeds, "With a recipe: train.seed of the runs (default: 1)")
        ->delimiter(',')
        ->type_name("N,N,...");
    command
        .add_option("--set", arguments.options.sets,
                    "With a recipe: section.key=v1,v2, runs with each value; several options combine")
        ->allow_extra_args(false)
        ->type_name("KEY=V,V");
    command
        .add_option(
            "--input", arguments.inputs,
            "Text from which data is made once, in DIR/data, as by `pastur data prepare`; in place of "
            "the design's input")
        ->type_name("FILES");
    command
        .add_option(
            "--tokenizer", arguments.tokenizer,
            "Of that data: bytes, train:VOCAB, a tokenizer.model, a tokenizer.json, or a folder with one of them")
        ->type_name("T");
    command.add_option("--title", arguments.title, "Heading of study.json and the page")->type_name("TEXT");
    command.add_option("--notes", arguments.notes, "What the study is for, shown on the page")
        ->type_name("TEXT");
}

/// Which runs this call trains, where and for how long.
void add_session_options(CLI::App& command, StudyArguments& arguments) {
    command.add_flag("--list", arguments.list, "Show every run's state and the time left, and exit");
    command
        .add_option("--only", arguments.only,
                    "Train only runs whose names match this pattern, such as 'mha-*'; several: repeat it")
        ->allow_extra_args(false)
        ->type_name("PATTERN");
    const std::map<std::string, Stage> stages = {
        {"all", Stage::kAll}, {"data", Stage::kData}, {"runs", Stage::kRuns}, {"results", Stage::kResults}};
    command
        .add_option("--stage", arguments.stage,
                    "all; data: make the data alone; runs: also train, without study.json and the page; "
                    "results: those of the runs so far, without training")
        ->transform(CLI::CheckedTransformer(stages, CLI::ignore_case).description(""))
        ->type_name("all|data|runs|results")
        ->default_str("all");
    command
        .add_option(
            "--jobs", arguments.jobs,
            "Runs at the same time (default: as many as --gpus has GPUs for, else 1; --slurm: all). Without "
            "--gpus they share the visible GPUs")
        ->check(CLI::Range(int64_t{1}, int64_t{1024}))
        ->type_name("N");
    command
        .add_option("--gpus", arguments.gpus,
                    "GPUs, which train one run each at a time, or as many as --gpus-per-run")
        ->delimiter(',')
        ->type_name("0,1,...");
    command
        .add_option(
            "--gpus-per-run", arguments.gpus_per_run,
            "GPUs that train each run together, one rank each, started by mpirun; on CPUs, the ranks of a run")
        ->check(CLI::Range(int64_t{1}, int64_t{1024}))
        ->capture_default_str()
        ->type_name("N");
    command.add_option("--device", arguments.device, "auto, cpu or cuda")->capture_default_str();
    command
        .add_option(
            "--max-time", arguments.max_time,
            "After this long, checkpoint what runs and exit with 75: 1800 (seconds), 30m, 1h30m, 00:30:00")
        ->type_name("TIME");
    CLI::Option* slurm = command.add_flag(
        "--slurm", arguments.slurm,
        "Write DIR/study.sbatch and submit it: the data, an array with a task per run, then the results");
    command
        .add_option("--slurm-options", arguments.slurm_options,
                    "Of sbatch for all jobs, such as '--partition=gpu --time=02:00:00'")
        ->needs(slurm)
        ->type_name("TEXT");
    command
        .add_flag_callback(
            "--no-submit", [&arguments] { arguments.submit = false; }, "Only write DIR/study.sbatch")
        ->needs(slurm);
}

}  // namespace

void add_study_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "study",
        "Every run of a design (variants, seeds, arms), resumable, then their figures over seeds and a page");
    const auto arguments = std::make_shared<StudyArguments>();
    add_design_options(*command, *arguments);
    add_session_options(*command, *arguments);
    command->allow_extras();
    command->footer(
        "Any key of the recipe can be set for every run by --section.key=value.\n"
        "Run the same command again to continue. A run that fails is reported and passed over.");
    command->callback([command, arguments, &run] {
        arguments->overrides = overrides_of(*command);
        run = [arguments] {
            arguments->design = find_design(arguments->design);
            return study(*arguments);
        };
    });
}

}  // namespace pastur
