// pastur train: one run, on one rank or several.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <system_error>

#include "engine/io/console.h"
#include "engine/model/recipe.h"
#include "engine/ranks/comm.h"
#include "engine/train/data_failure.h"
#include "engine/train/run_folder.h"
#include "engine/train/step_profile.h"
#include "engine/train/stop_request.h"
#include "engine/train/trainer.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/every_rank.h"
#include "tools/pastur/overrides.h"
#include "tools/pastur/print.h"
#include "tools/pastur/rank_context.h"
#include "tools/pastur/recipe_files.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/time_limit.h"

namespace pastur {
namespace {

struct TrainArguments {
    std::string recipe, run_dir, device = "auto", comm = "auto", log = "auto";
    bool resume = false, print_config = false;
    std::string max_time, profile_steps;
    std::vector<Override> overrides;
};

/// The run is complete even without its report, so a failure is only printed, except an I/O error, which
/// fails the run.
void report_on(const std::filesystem::path& run_dir) {
    const std::filesystem::path page = run_dir / "report.html";
    try {
        write_report({run_dir}, page);
        Console::out().write(fmt::format("report: {}\n", page.string()));
    } catch (const std::system_error& error) {  // of std::filesystem
        fail(ExitCode::kIo, "no report was written: {}", error.what());
    } catch (const Error& error) {
        // What is missing is a file of this run.
        if (error.code() == ExitCode::kIo || error.code() == ExitCode::kMissingInput)
            fail(ExitCode::kIo, "no report was written: {}", error.what());
        Console::report_error(fmt::format("no report was written: {}", error.what()));
    }
}

/// The run folder that `given` means: itself, or that of a run's config.toml; empty for a recipe.
std::filesystem::path run_folder_of(const std::filesystem::path& given) {
    if (std::filesystem::is_directory(given)) {
        if (!is_run_folder(given))
            fail(ExitCode::kMissingInput, "{}: expected a recipe (TOML) or the folder of a run",
                 given.string());
        return given;
    }
    const std::filesystem::path folder = given.has_parent_path() ? given.parent_path() : ".";
    return given.filename() == kConfigFile && is_run_folder(folder) ? folder : std::filesystem::path();
}

bool overrides_key(const TrainArguments& arguments, const std::string& key) {
    return std::any_of(arguments.overrides.begin(), arguments.overrides.end(),
                       [&](const Override& override) { return override.first == key; });
}

struct TrainRequest {
    Config config;
    std::filesystem::path run_dir;
};

/// The run folder that the arguments continue, known before any of its files but env.json is read; else empty.
std::filesystem::path continued_run(const TrainArguments& arguments) {
    const std::filesystem::path run = run_folder_of(arguments.recipe);
    const bool elsewhere = !arguments.run_dir.empty() || overrides_key(arguments, "run.dir") ||
                           overrides_key(arguments, "run.name");
    return elsewhere ? std::filesystem::path() : run;
}

/// A recipe and its run folder, or those of a run to continue.
TrainRequest read_request(const TrainArguments& arguments, const World& world) {
    const int ranks = world.size();
    const std::filesystem::path run = run_folder_of(arguments.recipe);
    const std::string recipe = run.empty() ? find_recipe(arguments.recipe) : (run / kConfigFile).string();
    Config config = load_recipe(recipe, arguments.overrides, ranks, world.rank());
    // A run's config.toml holds the micro-batch for the number of ranks at its start.
    if (!run.empty() && !overrides_key(arguments, "train.micro_batch") &&
        config.train.global_batch % (config.train.micro_batch * ranks) != 0) {
        std::vector<Override> overrides = arguments.overrides;
        overrides.emplace_back("train.micro_batch", "0");
        config = load_config(recipe, overrides, ranks);
    }
    std::filesystem::path run_dir = arguments.run_dir;
    if (run_dir.empty()) run_dir = continued_run(arguments);
    if (run_dir.empty()) run_dir = config.run.dir;
    return {config, run_dir};
}

/// auto: status lines on a terminal, but not on the one that Open MPI gives rank 0, also under `mpirun > log`.
void choose_console_style(const std::string& log) {
    if (log == "plain" || (log == "auto" && launched_by_mpi())) Console::out().set_has_status(false);
    if (log == "tty") Console::out().set_has_status(true);
}

/// Trains. On several ranks a DataFailure, which every rank throws, is printed by those whose data it is.
ExitCode run_on_every_rank(Trainer& trainer, const TrainRequest& request, bool resume, World& world,
                           std::unique_ptr<RunOwner> owner) {
    try {
        return trainer.run(request.run_dir, resume, std::move(owner));
    } catch (const DataFailure& failed) {
        if (world.size() == 1) throw;
        const std::string what = failed.what();
        if (!what.empty()) Console::report_error(fmt::format("rank {}: {}", world.rank(), what));
        return failed.code();
    }
}

int train(const TrainArguments& arguments, World& world, std::unique_ptr<Comm>& comm) {
    auto owner = prepare_on_every_rank(world, [&] {
        const std::filesystem::path run = continued_run(arguments);
        const bool claims = world.rank() == 0 && !run.empty() && !arguments.print_config;
        return claims ? std::make_unique<RunOwner>(run) : nullptr;
    });
    const TrainRequest request = prepare_on_every_rank(world, [&] { return read_request(arguments, world); });
    const Config& config = request.config;
    if (arguments.print_config) {
        if (world.rank() == 0) print_text("{}", to_toml(config));
        return 0;
    }
    world.set_timeout(config.train.comm_timeout_s);
    Context ctx = prepare_on_every_rank(world, [&] {
        Context made = rank_context(arguments.device, world);
        choose_transport(world, made, arguments.comm);
        return made;
    });
    comm = make_comm(world, ctx, arguments.comm);
    const auto trainer = prepare_on_every_rank(world, [&] {
        auto made = std::make_unique<Trainer>(config, ctx, *comm);
        if (!arguments.profile_steps.empty())
            std::apply([&](int64_t first, int64_t last) { made->profile(first, last); },
                       parse_step_range(arguments.profile_steps));
        return made;
    });
    if (comm->is_root()) Console::out().write(trainer->describe());
    const ExitCode code = run_on_every_rank(*trainer, request, arguments.resume, world, std::move(owner));
    if (code == ExitCode::kOk && comm->is_root()) report_on(request.run_dir);
    // A launcher may end the job when the first rank exits. Rank 0 may still write the last checkpoint and the report or
    // run the hook, and any rank may still print what its data lacks.
    world.wait_for_all();
    return static_cast<int>(code);
}

int train_as_rank(const TrainArguments& arguments) {
    choose_console_style(arguments.log);
    if (!arguments.max_time.empty())
        request_stop_after(parse_time_limit(arguments.max_time, "--max-time " + arguments.max_time));
    World world = World::from_environment();
    std::unique_ptr<Comm> comm;
    return run_as_rank(world, [&] { return train(arguments, world, comm); });
}

}  // namespace

void add_train_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command =
        app.add_subcommand("train", "Train a model from a recipe (also under mpirun or srun)");
    const auto arguments = std::make_shared<TrainArguments>();
    command
        ->add_option(
            "recipe", arguments->recipe,
            "Recipe (TOML), or the name of one that comes with the program, such as nano-mha; or a run "
            "folder, with --resume, to continue its run")
        ->required()
        ->type_name("RECIPE.toml|RUN");
    command
        ->add_option("--run", arguments->run_dir,
                     "Run folder (default: run.dir of the recipe, else runs/<name>)")
        ->type_name("DIR");
    command->add_flag("--resume", arguments->resume,
                      "Continue from the newest intact checkpoint in the run folder, if any");
    command
        ->add_option(
            "--max-time", arguments->max_time,
            "After this long, finish the step, checkpoint and exit with 75: 1800 (seconds), 30m, 1h30m, "
            "00:30:00 (default: never)")
        ->type_name("TIME");
    command
        ->add_option(
            "--profile-steps", arguments->profile_steps,
            "Time the ops of these steps (a table on the console and in RUN/profile.txt); on CUDA between "
            "cudaProfilerStart and cudaProfilerStop, for nsys profile -c cudaProfilerApi")
        ->type_name("FIRST:LAST");
    command->add_flag("--print-config", arguments->print_config,
                      "Print the resolved configuration as TOML and exit; needs no data");
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command
        ->add_option(
            "--comm", arguments->comm,
            "How ranks communicate: nccl between GPUs; mpi through host memory, also where ranks share a GPU; tcp "
            "between CPU ranks, without MPI")
        ->capture_default_str()
        ->type_name("auto|mpi|nccl|tcp");
    command
        ->add_option(
            "--log", arguments->log,
            "How the console shows progress: plain, lines alone; tty, also a status line that changes "
            "in place; auto, tty on a terminal outside mpirun")
        ->capture_default_str()
        ->check(CLI::IsMember({"auto", "plain", "tty"}));
    command->allow_extras();
    command->footer("Any key of the recipe can be overridden by --section.key=value:\n" +
                    describe_config_keys());
    command->callback([command, arguments, &run] {
        arguments->overrides = overrides_of(*command);
        run = [arguments] { return train_as_rank(*arguments); };
    });
}

}  // namespace pastur
