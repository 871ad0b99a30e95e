#include "tools/pastur/bench/scaling_report.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "engine/model/attention/variants.h"
#include "engine/model/measure.h"
#include "engine/model/recipe.h"
#include "engine/train/environment.h"

namespace pastur {
namespace {

struct Moving {
    const char *name, *library;  ///< library: its key in env.json
};
Moving moving_of(Transport transport) {
    switch (transport) {
        case Transport::kNccl:
            return {"NCCL", "nccl"};
        case Transport::kMpi:
            return {"MPI", "mpi"};
        case Transport::kTcp:
            return {"TCP", ""};
        case Transport::kNone:
            break;
    }
    return {"none", ""};
}

double p95(const ScalingPoint& point) {
    return quantile(point.step_seconds, 0.95);
}

nlohmann::ordered_json to_json(const ScalingBench& bench, const ScalingPoint& point,
                               const std::optional<StepTime>& predicted) {
    if (!predicted) return nullptr;
    return {{"ms", predicted->total() * 1e3},
            {"exposed_ms", predicted->exposed_s * 1e3},
            {"efficiency", bench.efficiency(point, *predicted)}};
}

nlohmann::ordered_json to_json(const ScalingBench& bench, const ScalingPoint& point) {
    std::vector<double> step_ms, silent_ms;
    for (const double seconds : point.step_seconds) step_ms.push_back(seconds * 1e3);
    for (const double seconds : point.silent_seconds) silent_ms.push_back(seconds * 1e3);
    return {{"kind", point.kind},
            {"ranks", point.ranks},
            {"global_batch", point.config.train.global_batch},
            {"micro_batch", point.config.train.micro_batch},
            {"tokens_per_step", point.tokens()},
            {"tokens_per_s", point.tokens_per_s()},
            {"ms_p50", point.median() * 1e3},
            {"ms_p95", p95(point) * 1e3},
            {"efficiency", bench.efficiency(point)},
            {"exposed_ms", point.exposed() * 1e3},
            {"step_ms", step_ms},
            {"silent_ms_of_ranks", silent_ms},
            {"predicted", to_json(bench, point, point.predicted)},
            {"planned", to_json(bench, point, point.planned)}};
}

nlohmann::ordered_json to_json(const ScalingBench& bench) {
    const VariantBench& alone = bench.alone;
    const TrainConfig& train = alone.config.train;
    nlohmann::ordered_json json = {{"variant", name_of(alone.config.attention.variant)},
                                   {"parameters", alone.size.parameters},
                                   {"recompute", name_of(train.recompute)},
                                   {"zero", train.zero},
                                   {"comm_dtype", name_of(train.comm_dtype)},
                                   {"deterministic_comm", train.deterministic_comm},
                                   {"alpha_us", bench.links.alpha_s * 1e6},
                                   {"gb_per_s", bench.links.bytes_per_s / 1e9},
                                   {"alone",
                                    {{"global_batch", train.global_batch},
                                     {"micro_batch", train.micro_batch},
                                     {"tokens_per_step", alone.tokens},
                                     {"tokens_per_s", alone.tokens_per_s()},
                                     {"ms_p50", alone.median() * 1e3},
                                     {"ms_p95", alone.p95() * 1e3}}},
                                   {"points", nlohmann::ordered_json::array()}};
    for (const ScalingPoint& point : bench.points) json["points"].push_back(to_json(bench, point));
    return json;
}

}  // namespace

ScalingReport describe_ranks(Context& ctx, Comm& comm, const Config& config, const BenchOptions& options) {
    ScalingReport report;
    report.backend = is_cuda(ctx) ? "cuda" : "cpu";
    report.device = device_name(ctx);
    report.dtype = name_of(compute_dtype(config.train, ctx));
    report.ranks = comm.size();
    report.ranks_of_host = comm.ranks_of_host();
    const Moving moving = moving_of(comm.transport());
    report.transport = moving.name;
    const nlohmann::json environment = describe_environment(ctx, comm.size());
    if (const auto found = environment["libraries"].find(moving.library);
        found != environment["libraries"].end()) {
        const std::string text = found->get<std::string>();
        report.library = text.substr(0, text.find_first_of(",\n"));
    }
    // mpirun sets many of Open MPI's by itself.
    for (const auto& [name, value] : environment["variables"].items())
        if (comm.transport() == Transport::kNccl && name.starts_with("NCCL_"))
            report.variables[name] = value.get<std::string>();
    report.options = options;
    report.config = config;
    return report;
}

std::string ranks_text(const ScalingReport& report) {
    std::string settings;
    for (const auto& [name, value] : report.variables) settings += fmt::format(" {}={}", name, value);
    if (report.transport == "NCCL") settings = "; NCCL_* in force:" + (settings.empty() ? " none" : settings);
    return fmt::format("{} ranks, {} on this host ({}), over {}{}{}\n", report.ranks, report.ranks_of_host,
                       report.device, report.transport,
                       report.library.empty() ? "" : " (" + report.library + ")", settings);
}

std::string scaling_text(const ScalingBench& bench) {
    const VariantBench& alone = bench.alone;
    const TrainConfig& train = alone.config.train;
    std::string text = fmt::format(
        "\n{}: {:.1f} M parameters, train.recompute = \"{}\", train.zero = {}, train.comm_dtype = \"{}\"{}; measured "
        "links: alpha = {:.1f} us, B = {:.2f} GB/s\n"
        "  {:<8}{:>7}{:>12}{:>14}{:>11}{:>12}{:>14}{:>12} | predicted:{:>10}{:>12}{:>11}\n",
        name_of(alone.config.attention.variant), static_cast<double>(alone.size.parameters) / 1e6,
        name_of(train.recompute), train.zero, name_of(train.comm_dtype),
        train.deterministic_comm ? ", train.deterministic_comm = true" : "", bench.links.alpha_s * 1e6,
        bench.links.bytes_per_s / 1e9, "", "ranks", "sequences", "tokens/s", "step ms", "efficiency",
        "unsent ms", "exposed ms", "step ms", "exposed ms", "efficiency");
    text += fmt::format("  {:<8}{:>7}{:>12}{:>14.0f}{:>11.2f}\n", "alone", 1, train.global_batch,
                        alone.tokens_per_s(), alone.median() * 1e3);
    for (const ScalingPoint& point : bench.points) {
        const auto prediction = [&](const char* links, const StepTime& time) {
            return fmt::format(" | {:<10}{:>10.2f}{:>12.2f}{:>9.1f} %", links, time.total() * 1e3,
                               time.exposed_s * 1e3, 100 * bench.efficiency(point, time));
        };
        text += fmt::format("  {:<8}{:>7}{:>12}{:>14.0f}{:>11.2f}{:>10.1f} %{:>14.2f}{:>12.2f}{}\n",
                            point.kind, point.ranks, point.config.train.global_batch, point.tokens_per_s(),
                            point.median() * 1e3, 100 * bench.efficiency(point), point.silent() * 1e3,
                            point.exposed() * 1e3, prediction("measured", point.predicted));
        if (point.planned) text += fmt::format("  {:<90}{}\n", "", prediction("assumed", *point.planned));
    }
    return text;
}

nlohmann::ordered_json to_json(const ScalingReport& report) {
    nlohmann::ordered_json json = {{"v", 1},
                                   {"version", version()},
                                   {"git", git_revision()},
                                   {"backend", report.backend},
                                   {"device", report.device},
                                   {"dtype", report.dtype},
                                   {"preset", report.config.model.preset},
                                   {"seq_len", report.config.data.seq_len},
                                   {"ranks", report.ranks},
                                   {"ranks_of_host", report.ranks_of_host},
                                   {"transport", report.transport},
                                   {"library", report.library},
                                   {"variables", report.variables},
                                   {"steps", report.options.steps},
                                   {"warmup", report.options.warmup},
                                   {"settle_s", report.options.settle},
                                   {"scaling", nlohmann::ordered_json::array()}};
    for (const ScalingBench& bench : report.variants) json["scaling"].push_back(to_json(bench));
    return json;
}

std::string to_csv(const ScalingReport& report) {
    std::string text =
        "variant,kind,ranks,sequences,zero,comm_dtype,ms,ms_p95,tokens_per_s,efficiency,silent_ms,exposed_ms,"
        "predicted_ms,predicted_exposed_ms,predicted_efficiency,planned_ms,planned_exposed_ms,planned_efficiency\n";
    for (const ScalingBench& bench : report.variants) {
        const TrainConfig& train = bench.alone.config.train;
        const std::string name = name_of(bench.alone.config.attention.variant);
        const std::string exchange = fmt::format("{},{}", train.zero, name_of(train.comm_dtype));
        text += fmt::format("{},alone,1,{},{},{},{},{},1,,,,,,,,\n", name, train.global_batch, exchange,
                            bench.alone.median() * 1e3, bench.alone.p95() * 1e3, bench.alone.tokens_per_s());
        for (const ScalingPoint& point : bench.points) {
            text += fmt::format("{},{},{},{},{},{},{},{},{},{},{}", name, point.kind, point.ranks,
                                point.config.train.global_batch, exchange, point.median() * 1e3,
                                p95(point) * 1e3, point.tokens_per_s(), bench.efficiency(point),
                                point.silent() * 1e3, point.exposed() * 1e3);
            for (const std::optional<StepTime>& time : {std::optional(point.predicted), point.planned})
                text += time ? fmt::format(",{},{},{}", time->total() * 1e3, time->exposed_s * 1e3,
                                           bench.efficiency(point, *time))
                             : ",,,";
            text += "\n";
        }
    }
    return text;
}

}  // namespace pastur
