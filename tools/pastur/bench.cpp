// pastur bench: throughput of training steps and of single ops relative to the machine's ceilings.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/config/nearest_name.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "tools/pastur/bench/bench_generate.h"
#include "tools/pastur/bench/bench_report.h"
#include "tools/pastur/bench/scaling_report.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/every_rank.h"
#include "tools/pastur/overrides.h"
#include "tools/pastur/print.h"
#include "tools/pastur/rank_context.h"
#include "tools/pastur/recipe_files.h"

namespace pastur {
namespace {

struct BenchArguments {
    std::string recipe, variants, device = "auto", comm = "auto", json, csv;
    bool strong = false;
    int64_t steps = 0, warmup = 0;  ///< 0: the device's default
    double settle = 0;
    GenerateBenchArguments generate;
    std::string ops;  ///< beginning of names; "true" (CLI11's value of a flag without one): all ops
    std::vector<Override> overrides;
};

/// The default recipes; on a GPU 131,072 tokens per step.
constexpr const char* kCpuRecipe =
    "[model]\npreset = \"nano\"\n[data]\nseq_len = 128\n[train]\nglobal_batch = 16\ngrad_clip = 1.0\n";
constexpr const char* kCudaRecipe =
    "[model]\npreset = \"130m\"\n[data]\nseq_len = 256\n[train]\nglobal_batch = 512\ngrad_clip = 1.0\n";

/// The recipe of a single rank. Rank 0 reports settings that are ignored.
Config base_config(const BenchArguments& arguments, bool cuda, int rank) {
    if (!arguments.recipe.empty())
        return load_recipe(find_recipe(arguments.recipe), arguments.overrides, 1, rank);
    std::vector<std::string> ignored;
    const Config config =
        parse_config(cuda ? kCudaRecipe : kCpuRecipe, "bench", arguments.overrides, 1, &ignored);
    if (rank == 0) report_ignored(ignored);
    return config;
}

/// The variants that --variants names; by default all if there is no recipe, else none.
std::vector<Variant> variants_of(const BenchArguments& arguments) {
    const std::vector<std::string> known = variant_names();
    std::string list = arguments.variants;
    if (list.empty() && !arguments.recipe.empty()) return {};
    if (list.empty()) list = fmt::format("{}", fmt::join(known, ","));
    std::vector<Variant> variants;
    for (size_t begin = 0; begin <= list.size();) {
        const size_t end = std::min(list.find(',', begin), list.size());
        const std::string name = list.substr(begin, end - begin);
        if (std::find(known.begin(), known.end(), name) == known.end())
            fail(ExitCode::kUsage, "--variants: unknown variant \"{}\"; did you mean \"{}\"? (of {})", name,
                 nearest_name(name, known), fmt::join(known, ", "));
        variants.push_back(variant_named(name));
        begin = end + 1;
    }
    return variants;
}

std::vector<Config> configs_of(const BenchArguments& arguments, const std::vector<Variant>& variants,
                               bool cuda, int rank) {
    const Config base = base_config(arguments, cuda, rank);
    std::vector<Config> configs;
    for (const Variant variant : variants) configs.push_back(with_variant(base, variant));
    if (variants.empty()) configs.push_back(base);
    return configs;
}

void check_generate(const BenchArguments& arguments) {
    const GenerateBenchArguments& generate = arguments.generate;
    if (!generate.on && (!generate.batch.empty() || generate.context > 0))
        fail(ExitCode::kUsage, "--batch and --context: expected with --generate");
    if (generate.on &&
        (!arguments.ops.empty() || !arguments.csv.empty() || arguments.warmup > 0 || arguments.settle > 0))
        fail(ExitCode::kUsage, "--generate: expected without --ops, --csv, --warmup and --settle");
    generate_options(generate, 0, false);  // of its list of batches, before the device starts
}

void check_ranks(const BenchArguments& arguments, int ranks) {
    if (ranks == 1 && (arguments.strong || arguments.comm != "auto"))
        fail(ExitCode::kUsage, "--strong and --comm: expected several ranks, such as under mpirun -np 2");
    if (ranks > 1 && (!arguments.ops.empty() || arguments.generate.on))
        fail(ExitCode::kUsage, "--ops and --generate: expected one rank, not {}", ranks);
}

BenchOptions options_of(const BenchArguments& arguments, bool cuda) {
    BenchOptions options;
    options.steps = arguments.steps > 0 ? arguments.steps : cuda ? 20 : 10;
    options.warmup = arguments.warmup > 0 ? arguments.warmup : cuda ? 5 : 2;
    options.settle = arguments.settle;
    options.apart = std::min<int64_t>(options.steps, 5);
    options.diagnostics = true;
    return options;
}

/// Every rank of a job with several.
void bench_ranks(const BenchArguments& arguments, World& world, Context& ctx,
                 const std::vector<Config>& configs, std::unique_ptr<Comm>& comm) {
    world.set_timeout(configs.front().train.comm_timeout_s);
    comm = make_comm(world, ctx, arguments.comm);
    ScalingReport report = describe_ranks(ctx, *comm, configs.front(), options_of(arguments, is_cuda(ctx)));
    if (comm->is_root()) print_text("{}", ranks_text(report));
    for (const Config& config : configs) {
        report.variants.push_back(bench_scaling(ctx, world, *comm, config, report.options, arguments.strong));
        if (!comm->is_root()) continue;
        print_text("{}", scaling_text(report.variants.back()));
        std::fflush(stdout);
    }
    if (comm->is_root() && !arguments.json.empty())
        write_file_atomically(arguments.json, to_json(report).dump(2) + "\n");
    if (comm->is_root() && !arguments.csv.empty()) write_file_atomically(arguments.csv, to_csv(report));
    world.wait_for_all();
}

int bench(const BenchArguments& arguments, World& world, std::unique_ptr<Comm>& comm) {
    Context ctx = prepare_on_every_rank(world, [&] {
        check_generate(arguments);
        check_ranks(arguments, world.size());
        parse_device(arguments.device);
        variants_of(arguments);
        Context made = rank_context(arguments.device, world);
        choose_transport(world, made, arguments.comm);
        return made;
    });
    const std::vector<Config> configs = prepare_on_every_rank(world, [&] {
        const auto made = configs_of(arguments, variants_of(arguments), is_cuda(ctx), world.rank());
        if (arguments.strong) check_strong(made.front(), world.size());
        return made;
    });
    if (world.size() > 1) {
        bench_ranks(arguments, world, ctx, configs, comm);
        return 0;
    }
    if (arguments.generate.on) {
        run_generate_bench(ctx, configs, generate_options(arguments.generate, arguments.steps, is_cuda(ctx)),
                           arguments.json);
        return 0;
    }
    const DType dtype = compute_dtype(configs.front().train, ctx);

    BenchReport report;
    report.backend = is_cuda(ctx) ? "cuda" : "cpu";
    report.device = device_name(ctx);
    report.dtype = name_of(dtype);
    report.config = configs.front();
    report.options = options_of(arguments, is_cuda(ctx));
    report.ceilings = measure_ceilings(ctx, dtype);
    print_text("{}", ceilings_text(report));
    if (!arguments.ops.empty()) print_text("{}", ops_header(report.ceilings));
    for (const Config& config : configs) {
        if (!arguments.ops.empty()) {
            const std::string only = arguments.ops == "true" ? "" : arguments.ops;
            bench_ops(ctx, config, only, report.ops, [&](const OpBench& op) {
                print_text("{}", op_text(op, report.ceilings));
                std::fflush(stdout);
            });
            continue;
        }
        report.variants.push_back(bench_variant(ctx, config, report.options));
        print_text("{}", variant_text(report.variants.back(), report.ceilings));
        std::fflush(stdout);
    }
    if (!arguments.json.empty()) write_file_atomically(arguments.json, to_json(report).dump(2) + "\n");
    if (!arguments.csv.empty()) write_file_atomically(arguments.csv, to_csv(report));
    return 0;
}

}  // namespace

void add_bench_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "bench",
        "Throughput of training steps on random tokens, and where their time goes; under mpirun or srun, against one rank");
    const auto arguments = std::make_shared<BenchArguments>();
    command
        ->add_option("recipe", arguments->recipe,
                     "Recipe (TOML); default: nano on the CPU, 130m at 131,072 tokens per step on CUDA")
        ->type_name("RECIPE.toml");
    command
        ->add_option("--variants", arguments->variants,
                     "Attention variants, separated by commas (default: the recipe's; without a recipe, all)")
        ->type_name("A,B,C");
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    const auto positive = CLI::Range(int64_t{1}, int64_t{1} << 30);
    command
        ->add_option("--steps", arguments->steps,
                     "Measured steps (default: 20 on CUDA, 10 on the CPU; passes of --generate: 32)")
        ->check(positive);
    command->add_option("--warmup", arguments->warmup, "Warm-up steps (default: 5 on CUDA, 2 on the CPU)")
        ->check(positive);
    command
        ->add_option("--settle", arguments->settle,
                     "Shortest warm-up in seconds: a GPU slows down when it reaches its power limit")
        ->check(CLI::Range(0.0, 3600.0))
        ->capture_default_str();
    command
        ->add_flag(
            "--strong", arguments->strong,
            "On several ranks: also measure the recipe's batch divided over them. Without it each rank has the "
            "recipe's batch, and is compared with rank 0 alone")
        ->disable_flag_override();
    command->add_option("--comm", arguments->comm, "On several ranks: as for `pastur train`")
        ->capture_default_str()
        ->type_name("auto|mpi|nccl|tcp");
    command
        ->add_flag("--ops", arguments->ops,
                   "Measure single ops instead of steps: at the recipe's shapes, attention also at others; "
                   "--ops=NAME: only those whose names begin with NAME")
        ->type_name("[NAME]");
    command->add_flag(
        "--generate", arguments->generate.on,
        "Measure generation instead of training steps: prompts, then passes of one token per sequence "
        "from the cache");
    command
        ->add_option("--batch", arguments->generate.batch,
                     "With --generate: numbers of sequences (default: 1,64 on CUDA, 1,8 on the CPU)")
        ->type_name("N,N");
    command
        ->add_option("--context", arguments->generate.context,
                     "With --generate: tokens of a prompt (default: 1024 on CUDA, 128 on the CPU)")
        ->check(positive);
    command->add_option("--json", arguments->json, "Also write everything as JSON")->type_name("FILE");
    command->add_option("--csv", arguments->csv, "Also write everything as CSV")->type_name("FILE");
    command->allow_extras();
    command->footer(
        "Any key of the recipe can be overridden by --section.key=value: see `pastur train --help`.");
    command->callback([command, arguments, &run] {
        arguments->overrides = overrides_of(*command);
        run = [arguments] {
            World world = World::from_environment();
            std::unique_ptr<Comm> comm;
            return run_as_rank(world, [&] { return bench(*arguments, world, comm); });
        };
    });
}

}  // namespace pastur
