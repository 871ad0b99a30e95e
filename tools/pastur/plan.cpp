// pastur plan: memory, FLOPs, time and scaling of a recipe without running it.
#include <fmt/format.h>

#include "engine/bench/bench.h"
#include "engine/bench/links.h"
#include "engine/bench/scaling_model.h"
#include "engine/model/attention/variants.h"
#include "engine/model/measure.h"
#include "engine/model/recipe.h"
#include "engine/train/optimizer/optimizer_state.h"
#include "engine/train/train_step.h"
#include "engine/train/training_setup.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/overrides.h"
#include "tools/pastur/print.h"
#include "tools/pastur/rank_context.h"
#include "tools/pastur/recipe_files.h"

namespace pastur {
namespace {

/// Assumed for a GPU unless --tflops is given.
constexpr double kGpuTflops = 400;

struct PlanArguments {
    std::string recipe, device = "auto", comm = "auto";
    int gpus = 1, node = kAssumedLinks.node;
    double tflops = 0;  ///< 0: not given
    double alpha_us = kAssumedLinks.alpha_s * 1e6, gbytes = kAssumedLinks.bytes_per_s / 1e9,
           gbytes_beyond = kAssumedLinks.bytes_per_s_beyond / 1e9;
    bool measure = false;
    std::vector<Override> overrides;
};

double mib(int64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}

/// The choice of train.recompute = "auto". device: memory of the device on which the rank would run, if
/// present.
std::string describe_auto(Context& ctx, const MemoryPlan& memory, const std::optional<MemoryInfo>& device) {
    const double share = kRecomputeAutoShare * 100;
    if (!device)
        return fmt::format("takes the first whose total is at most {:.0f} % of a GPU's free memory", share);
    return fmt::format("takes the first within {:.0f} % of {:.1f} MiB, free on {}{}", share,
                       mib(device->free_bytes), device_name(ctx),
                       memory.total() <= device->free_bytes ? "" : ": none fits");
}

/// Memory of a rank by entry, and in total for every level of train.recompute.
void print_memory(Context& ctx, const Model& model, const MemoryPlan& memory,
                  const std::optional<MemoryInfo>& device, int ranks) {
    const Config& config = model.config();
    print_text("memory of each of {} rank{}, {}, train.recompute = \"{}\":\n", ranks, ranks == 1 ? "" : "s",
               name_of(model.params().compute_dtype()), name_of(model.recompute()));
    for (const MemoryPlan::Entry& entry : memory.entries)
        print_text("  {:<24}{:>12.1f} MiB\n", entry.name, mib(entry.bytes));
    print_text("  {:<24}{:>12.1f} MiB{}\n", "total", mib(memory.total()),
               device ? "" : " (scratch and diagnostics as on this CPU; a GPU's differ)");
    const double step_flops = size_of_model(config, model.params().table()).flops_per_token;
    const bool chosen = device || config.train.recompute;
    print_text("  {:<18}{:>18}{:>20}{:>14}\n", "train.recompute", "activations MiB", "total per rank MiB",
               "extra FLOPs");
    for (const RecomputeChoice& choice : recompute_choices(ctx, model))
        print_text("  {:<18}{:>18.1f}{:>20.1f}{:>12.1f} %{}\n", name_of(choice.level),
                   mib(choice.activations.bytes() + choice.activations.scratch_bytes()),
                   mib(memory.total_with(choice.activations)),
                   choice.extra_flops_per_token / step_flops * 100,
                   chosen && choice.level == model.recompute() ? "  <- this recipe" : "");
    if (!config.train.recompute)
        print_text("  train.recompute = \"auto\" {}\n", describe_auto(ctx, memory, device));
}

/// Memory for other micro-batches; the largest that fits is the fastest by a few percent.
void print_micro_batches(Context& ctx, Config config, DType dtype, int rank, int ranks, Transport transport,
                         bool here) {
    const int64_t mine = config.train.micro_batch, share = config.train.global_batch / ranks;
    print_text("  {:<18}", "train.micro_batch");
    for (const Recompute level : kRecomputeLevels)
        print_text("{:>14}", fmt::format("{} MiB", name_of(level)));
    print_text("\n");
    for (int64_t micro = std::max<int64_t>(mine / 4, 1); micro <= mine * 8; micro *= 2) {
        if (share % micro != 0) continue;
        config.train.micro_batch = micro;
        TrainingSetup setup(config, dtype, rank, ranks, transport);
        const MemoryPlan memory = setup.plan(ctx, TrainingSetup::Purpose::kRun, here);
        print_text("  {:<18}", micro);
        for (const RecomputeChoice& choice : recompute_choices(ctx, setup.model()))
            print_text("{:>14.1f}", mib(memory.total_with(choice.activations)));
        print_text("{}\n", micro == mine ? "  <- this recipe" : "");
    }
}

/// Measures the seconds of one rank's micro-batches and update, on all ranks of this job at once.
double measured_compute(Context& ctx, Comm& comm, Config config, Recompute level) {
    config.train.recompute = level;
    config.train.global_batch /= comm.size();
    config.train.zero = 0;
    config.train.deterministic_comm = false;
    comm.barrier();
    const double seconds = bench_variant(ctx, config, {.steps = 9, .warmup = 2, .apart = 0}).median();
    comm.barrier();
    return seconds;
}

void print_row(const char* kind, int ranks, int64_t sequences, const StepTime& time, int64_t seq_len) {
    print_text("  {:<6}{:>7}{:>12}{:>12.2f}{:>12.2f}{:>12.2f}{:>9.1f} %{:>14.0f}\n", kind, ranks, sequences,
               time.compute_s * 1e3, time.exposed_s * 1e3, time.total() * 1e3, time.efficiency() * 100,
               static_cast<double>(sequences * seq_len) / time.total());
}

/// Strong scaling divides the recipe's batch over more ranks; weak scaling keeps the work per rank at that of
/// `base` ranks.
void print_scaling(const Config& config, DType dtype, const Links& links, int base,
                   const ComputeTime& compute) {
    const int64_t share = config.train.global_batch / base, micro = config.train.micro_batch;
    print_text("  {:<6}{:>7}{:>12}{:>12}{:>12}{:>12}{:>11}{:>14}\n", "", "ranks", "sequences", "compute ms",
               "exposed ms", "step ms", "efficiency", "tokens/s");
    const auto at = [&](int ranks, int64_t sequences) {
        const TrainingSetup setup(config, dtype, 0, ranks);
        const double work = static_cast<double>(sequences) / static_cast<double>(share);
        return predict_step(config.train, setup.table(), links, ranks,
                            std::max<int64_t>(sequences / micro, 1),
                            {compute.micro_batches_s * work, compute.muon_s});
    };
    for (int ranks = 1; ranks <= 4096; ranks *= 2)
        if (config.train.global_batch % ranks == 0)
            print_row("strong", ranks, config.train.global_batch,
                      at(ranks, config.train.global_batch / ranks), config.data.seq_len);
    for (int ranks = 1; ranks <= 4096; ranks *= 2)
        print_row("weak", ranks, share * ranks, at(ranks, share), config.data.seq_len);
}

/// Time of a rank's computation, the rate of its GEMMs and the source of that; rate 0: unknown.
struct Assumption {
    ComputeTime time{};
    double flops_per_s = 0;
    const char* source = "";
};

/// flops: of the model, in a rank's micro-batches; muon: of Muon's GEMMs, which are taken to run at the same rate.
Assumption compute_time(Context& ctx, Comm& comm, const Config& config, Recompute level,
                        const PlanArguments& arguments, double flops, double muon) {
    const auto at = [&](double rate, const char* source) {
        return Assumption{{flops / rate, muon / rate}, rate, source};
    };
    if (arguments.measure) return at((flops + muon) / measured_compute(ctx, comm, config, level), "measured");
    if (arguments.tflops > 0) return at(arguments.tflops * 1e12, "assumed by --tflops");
    // CPUs differ too much for a default.
    if (arguments.device == "cpu") return {};
    return at(kGpuTflops * 1e12, "assumed; --tflops");
}

/// Prints the predicted step and its scaling.
void print_time(const TrainingSetup& setup, const PlanArguments& arguments, const Links& links,
                int64_t micro_batches, const Assumption& compute) {
    const Config& config = setup.config();
    const int ranks = setup.ranks();
    if (compute.flops_per_s == 0) {
        print_text("step time: unknown on this CPU; --measure runs some steps, --tflops assumes a rate\n");
        return;
    }
    print_text(
        "a rank computes {} micro-batch{} of {} in {:.2f} ms ({:.3f} TFLOP/s, {}); alpha = {:.1f} us, B = "
        "{:.2f} GB/s among {} ranks, {:.2f} GB/s beyond ({})\n",
        micro_batches, micro_batches == 1 ? "" : "es", config.train.micro_batch,
        compute.time.micro_batches_s * 1e3, compute.flops_per_s / 1e12, compute.source, links.alpha_s * 1e6,
        links.bytes_per_s / 1e9, links.node, links.bytes_per_s_beyond / 1e9,
        arguments.measure && ranks > 1 ? "measured between these ranks"
                                       : "assumed: --alpha-us, --gbytes, --node, --gbytes-beyond");
    if (compute.time.muon_s > 0)
        print_text("Muon's GEMMs, {:.3f} TFLOP an update, take {:.2f} ms on one rank at the same rate\n",
                   muon_flops(setup.table(), 1) / 1e12, compute.time.muon_s * 1e3);
    print_text("{}", kScalingFormula);
    const StepTime step =
        predict_step(config.train, setup.table(), links, ranks, micro_batches, compute.time);
    print_text(
        "predicted step on {} rank{}: {:.2f} ms, of which {:.2f} ms wait for gradients; {} steps: {:.2f} "
        "hours\n",
        ranks, ranks == 1 ? "" : "s", step.total() * 1e3, step.exposed_s * 1e3, config.train.steps,
        step.total() * static_cast<double>(config.train.steps) / 3600);
    print_scaling(config, setup.params().compute_dtype(), links, ranks, compute.time);
}

int plan(const PlanArguments& arguments) {
    World world = arguments.measure ? World::from_environment() : World();
    const int ranks = arguments.measure ? world.size() : arguments.gpus;
    const Config config =
        load_recipe(find_recipe(arguments.recipe), arguments.overrides, ranks, world.rank());
    const int64_t micro_batches = micro_batches_of(config, ranks);
    Context ctx = rank_context(arguments.device, world);
    const bool here = arguments.measure || arguments.device == "cpu";
    const DType dtype = here                                         ? compute_dtype(config.train, ctx)
                        : config.train.precision == Precision::kFp32 ? DType::kF32
                                                                     : DType::kBF16;
    const std::unique_ptr<Comm> comm = make_comm(world, ctx, arguments.comm);
    const Transport transport =
        arguments.measure ? comm->transport() : usual_transport(ranks, arguments.device != "cpu");
    TrainingSetup setup(config, dtype, world.rank(), ranks, transport);
    const ModelSize size = setup.size();
    const double step_flops =
        size.flops_per_token * static_cast<double>(config.train.global_batch * config.data.seq_len);

    std::optional<MemoryInfo> device;
    if (here || is_cuda(ctx)) device = memory_info(ctx);
    MemoryPlan memory = setup.plan(ctx, TrainingSetup::Purpose::kRun, device.has_value());
    if (device) memory.settle_recompute(*device, ctx, *comm, setup.model());
    const bool muon = config.train.optimizer == OptimizerKind::kMuon;
    const Assumption compute = compute_time(ctx, *comm, config, setup.model().recompute(), arguments,
                                            step_flops / ranks, muon ? muon_flops(setup.table(), 1) : 0);
    Links links{arguments.alpha_us * 1e-6, arguments.gbytes * 1e9, arguments.gbytes_beyond * 1e9,
                arguments.node};
    if (arguments.measure) links = measure_links(ctx, *comm, links);
    if (!comm->is_root()) return 0;

    print_text("{} {}: {:.2f} M parameters, {:.3f} GFLOP per token, {:.2f} TFLOP per step of {} sequences\n",
               config.model.preset, name_of(config.attention.variant),
               static_cast<double>(size.parameters) / 1e6, size.flops_per_token / 1e9, step_flops / 1e12,
               config.train.global_batch);
    print_memory(ctx, setup.model(), memory, device, ranks);
    print_micro_batches(ctx, config, dtype, world.rank(), ranks, transport, device.has_value());
    print_time(setup, arguments, links, micro_batches, compute);
    return 0;
}

}  // namespace

void add_plan_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command =
        app.add_subcommand("plan", "Memory, FLOPs, step time and scaling of a recipe without running it");
    const auto arguments = std::make_shared<PlanArguments>();
    command->add_option("recipe", arguments->recipe, "Recipe (TOML)")->required()->type_name("RECIPE.toml");
    command->add_option("--gpus", arguments->gpus, "Number of ranks, one per GPU")
        ->capture_default_str()
        ->check(CLI::Range(1, 1 << 16));
    command
        ->add_option("--device", arguments->device, "auto, cpu or cuda: cpu plans for fp32 on this machine")
        ->capture_default_str();
    command->add_option("--comm", arguments->comm, "With --measure: as for `pastur train`")
        ->capture_default_str()
        ->type_name("auto|mpi|nccl|tcp");
    const auto positive = CLI::PositiveNumber;
    command
        ->add_option(
            "--tflops", arguments->tflops,
            "Rate that a step sustains on a device, in TFLOP/s (`pastur bench` measures it; default: 400 on "
            "a GPU, unknown on the CPU)")
        ->check(positive);
    command->add_option("--alpha-us", arguments->alpha_us, "Latency of a message, in microseconds")
        ->capture_default_str()
        ->check(positive);
    command->add_option("--gbytes", arguments->gbytes, "Bandwidth of a GPU within its host, in GB/s")
        ->capture_default_str()
        ->check(positive);
    command
        ->add_option("--gbytes-beyond", arguments->gbytes_beyond, "Bandwidth of a GPU between hosts, in GB/s")
        ->capture_default_str()
        ->check(positive);
    command->add_option("--node", arguments->node, "GPUs per host")
        ->capture_default_str()
        ->check(CLI::Range(1, 1024));
    command->add_flag("--measure", arguments->measure,
                      "Measure a rank's step, and under mpirun the links, instead of assuming them");
    command->allow_extras();
    command->footer(
        "Any key of the recipe can be overridden by --section.key=value: see `pastur train --help`.");
    command->callback([command, arguments, &run] {
        arguments->overrides = overrides_of(*command);
        run = [arguments] { return plan(*arguments); };
    });
}

}  // namespace pastur
