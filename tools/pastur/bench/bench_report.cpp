#include "tools/pastur/bench/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/environment.h"

namespace pastur {
namespace {

/// Columns of the table of ops, whose lines are printed one by one. They fit "attention backward, rotated"
/// and "B 512 H 12 T 8192 d_qk 128 + 64 shared d_v 128".
constexpr int kOpColumn = 29, kShapeColumn = 54, kRatesColumn = 34;

std::optional<double> rate(double amount, double seconds) {
    if (amount == 0 || seconds <= 0) return {};
    return amount / seconds;
}

/// "  612.3  78 %", or spaces.
std::string rate_text(const std::optional<double>& rate, double unit, double ceiling) {
    if (!rate) return std::string(17, ' ');
    return fmt::format("{:>10.1f} {:>4.0f} %", *rate / unit, 100 * *rate / ceiling);
}

/// Depends on the ceiling: GFLOP/s for a CPU.
struct Unit {
    double flops;
    const char* name;
};
Unit unit_of(const Ceilings& ceilings) {
    return ceilings.flops_per_s < 10e12 ? Unit{1e9, "GFLOP/s"} : Unit{1e12, "TFLOP/s"};
}

std::string rates_header(const Ceilings& ceilings) {
    return fmt::format("{:>10} {:>6}{:>10} {:>6}", unit_of(ceilings).name, "of", "GB/s", "of");
}

std::string rates_text(const BenchRow& row, const Ceilings& ceilings) {
    const std::string text = rate_text(row.flops_per_s, unit_of(ceilings).flops, ceilings.flops_per_s) +
                             rate_text(row.bytes_per_s, 1e9, ceilings.bytes_per_s);
    return text.substr(0, text.find_last_not_of(' ') + 1);
}

nlohmann::ordered_json optional_json(const std::optional<double>& value, double unit) {
    if (!value) return nullptr;
    return *value / unit;
}

/// A value that is 0 if there is no GPU.
nlohmann::ordered_json rested(double value, double unit) {
    if (value == 0) return nullptr;
    return value * unit;
}

/// Every key by section, so a peer can build the same model.
nlohmann::ordered_json to_json(const Config& config) {
    nlohmann::ordered_json json;
    for (const Field& field : config_fields())
        visit_value(field, config, [&](const auto& value) { json[field.section][field.key] = value; });
    return json;
}

nlohmann::ordered_json to_json(const BenchRow& row, const Ceilings& ceilings) {
    return {{"name", row.name},
            {"ms", row.seconds * 1e3},
            {"tflops", optional_json(row.flops_per_s, 1e12)},
            {"gb_per_s", optional_json(row.bytes_per_s, 1e9)},
            {"of_matmul", optional_json(row.flops_per_s, ceilings.flops_per_s)},
            {"of_copy", optional_json(row.bytes_per_s, ceilings.bytes_per_s)}};
}

nlohmann::ordered_json to_json(const VariantBench& v, const BenchReport& report) {
    std::vector<double> step_ms;  // in order, so a device that slows down shows
    for (const double seconds : v.step_seconds) step_ms.push_back(seconds * 1e3);
    nlohmann::ordered_json json = {{"variant", name_of(v.config.attention.variant)},
                                   {"parameters", v.size.parameters},
                                   {"flops_per_token", v.size.flops_per_token},
                                   {"tokens_per_step", v.tokens},
                                   {"tokens_per_s", v.tokens_per_s()},
                                   {"tflops", v.flops_per_s() / 1e12},
                                   {"of_matmul", v.flops_per_s() / report.ceilings.flops_per_s},
                                   {"ms_p50", v.median() * 1e3},
                                   {"ms_p95", v.p95() * 1e3},
                                   {"step_ms", step_ms},
                                   {"planned_bytes", v.planned_bytes},
                                   {"peak_bytes", v.peak_bytes},
                                   {"losses", v.losses},
                                   {"config", to_json(v.config)}};
    if (v.document_tokens > 0) json["document_tokens"] = v.document_tokens;
    if (v.diagnostics.measurements > 0)
        json["diagnostics"] = {{"ms", v.diagnostics.seconds * 1e3},
                               {"steps_beside", v.diagnostics.steps_beside},
                               {"every", v.diagnostics.every},
                               {"share", v.diagnostics.share(v.median())}};
    for (const ScopeCost& cost : v.scopes)
        json["diagnostics"]["scope_ms"][name_of(cost.scope)] = cost.seconds * 1e3;
    for (const ScopeCost& cost : v.probe) json["probe_ms"][name_of(cost.scope)] = cost.seconds * 1e3;
    if (v.parts.seconds == 0) return json;
    json["timed_step_ms"] = v.parts.seconds * 1e3;
    json["parts"] = nlohmann::ordered_json::array();
    for (const BenchRow& row : rows_of(v.parts)) {
        nlohmann::ordered_json part = to_json(row, report.ceilings);
        part["calls"] = row.calls;
        part["share"] = row.share;
        json["parts"].push_back(std::move(part));
    }
    return json;
}

std::string csv_number(const std::optional<double>& value, double unit) {
    return value ? fmt::format("{}", *value / unit) : "";
}

std::string csv_rates(const BenchRow& row, const Ceilings& ceilings) {
    return fmt::format("{},{},{},{}", csv_number(row.flops_per_s, 1e12), csv_number(row.bytes_per_s, 1e9),
                       csv_number(row.flops_per_s, ceilings.flops_per_s),
                       csv_number(row.bytes_per_s, ceilings.bytes_per_s));
}

}  // namespace

std::vector<BenchRow> rows_of(const StepParts& parts) {
    std::vector<BenchRow> rows;
    const auto add = [&](const std::string& name, const OpTotal& total) {
        rows.push_back({name, "", total.calls, total.seconds, total.seconds / parts.seconds,
                        rate(total.flops, total.seconds), rate(total.bytes, total.seconds)});
    };
    for (size_t i = 0; i < kOpFamilies; ++i)
        if (parts.families[i].calls > 0) add(name_of(static_cast<OpFamily>(i)), parts.families[i]);
    add("other", {0, parts.other(), 0, 0});
    return rows;
}

BenchRow row_of(const OpBench& op) {
    return {op.op, op.shape, 1, op.seconds, 0, rate(op.flops, op.seconds), rate(op.bytes, op.seconds)};
}

std::string ceilings_text(const BenchReport& report) {
    const Ceilings& c = report.ceilings;
    const Unit unit = unit_of(c);
    const std::string rested =
        c.rested_flops_per_s > 0 ? fmt::format(" ({:.1f} rested)", c.rested_flops_per_s / unit.flops) : "";
    return fmt::format("{}: matmul {} {:.1f} {}{}, copy {} {:.1f} GB/s\n", report.device, c.product,
                       c.flops_per_s / unit.flops, unit.name, rested, c.copy, c.bytes_per_s / 1e9);
}

std::string variant_text(const VariantBench& v, const Ceilings& ceilings) {
    const Unit unit = unit_of(ceilings);
    std::string text = fmt::format(
        "\n{}: {:.1f} M parameters, {:.3f} GFLOP per token, {} tokens per step, train.recompute = \"{}\"\n"
        "  {:.0f} tokens/s, {:.1f} {} ({:.1f} % of the GEMM ceiling), {:.2f} ms p50, {:.2f} ms p95, peak "
        "memory "
        "{:.2f} GiB (planned {:.2f})\n",
        name_of(v.config.attention.variant), static_cast<double>(v.size.parameters) / 1e6,
        v.size.flops_per_token / 1e9, v.tokens, name_of(v.config.train.recompute), v.tokens_per_s(),
        v.flops_per_s() / unit.flops, unit.name, 100 * v.flops_per_s() / ceilings.flops_per_s,
        v.median() * 1e3, v.p95() * 1e3, static_cast<double>(v.peak_bytes) / (1 << 30),
        static_cast<double>(v.planned_bytes) / (1 << 30));
    if (v.document_tokens > 0)
        text += fmt::format(
            "  data.mask_documents: documents of {} tokens on average, their separators at random places; FLOPs count "
            "whole sequences\n",
            v.document_tokens);
    std::istringstream kernels(v.kernels);
    for (std::string line; std::getline(kernels, line);) text += "  " + line + "\n";
    if (const DiagnosticsCost& cost = v.diagnostics; cost.measurements > 0)
        text += fmt::format(
            "  spectra: a measurement lengthens the {:.0f} step{} during it by {:.1f} ms in total; every {} "
            "steps that is {:.2f} % of the time\n",
            cost.steps_beside, cost.steps_beside == 1 ? "" : "s", cost.seconds * 1e3, cost.every,
            100 * cost.share(v.median()));
    const auto scope_text = [&](const ScopeCost& cost, const char* takes) {
        return fmt::format(
            "  scope {}: a measurement {} {:.2f} ms; every {} steps that is {:.2f} % of the time\n",
            name_of(cost.scope), takes, cost.seconds * 1e3, v.config.diagnostics.every,
            100 * cost.seconds /
                (cost.seconds + static_cast<double>(v.config.diagnostics.every) * v.median()));
    };
    for (const ScopeCost& cost : v.scopes) text += scope_text(cost, "of it alone lengthens the steps by");
    for (const ScopeCost& cost : v.probe) text += scope_text(cost, "of the probe takes");
    if (v.parts.seconds == 0) return text;
    text += fmt::format("  {:<20}{:>6}{:>10}{:>8}{}\n", "step by op family", "calls", "ms", "share",
                        rates_header(ceilings));
    for (const BenchRow& row : rows_of(v.parts))
        text += fmt::format("  {:<20}{:>6}{:>10.3f}{:>6.1f} %{}\n", row.name, row.calls, row.seconds * 1e3,
                            100 * row.share, rates_text(row, ceilings));
    text += fmt::format("  {:<26}{:>10.3f}\n", "step, with timers", v.parts.seconds * 1e3);
    return text;
}

std::string ops_header(const Ceilings& ceilings) {
    const std::string rested =
        ceilings.rested_flops_per_s > 0 ? fmt::format("{:>12}{:>10}", "rested, ms", "rate") : "";
    return fmt::format("\n{:<{}}{:<{}}{:>10}{}{}\n", "op", kOpColumn, "shape", kShapeColumn, "ms",
                       rates_header(ceilings), rested);
}

std::string op_text(const OpBench& op, const Ceilings& ceilings) {
    std::string rates = rates_text(row_of(op), ceilings);
    if (op.rested_seconds > 0) {
        const bool products = op.flops > 0;
        rates =
            fmt::format("{:<{}}{:>12.4f}{:>10.1f}", rates, kRatesColumn, op.rested_seconds * 1e3,
                        (products ? op.flops / unit_of(ceilings).flops : op.bytes / 1e9) / op.rested_seconds);
    }
    return fmt::format("{:<{}}{:<{}}{:>10.4f}{}\n", op.op, kOpColumn, op.shape, kShapeColumn,
                       op.seconds * 1e3, rates);
}

nlohmann::ordered_json to_json(const BenchReport& report) {
    const Config& config = report.config;
    const Ceilings& ceilings = report.ceilings;
    nlohmann::ordered_json json = {{"v", 1},
                                   {"version", version()},
                                   {"git", git_revision()},
                                   {"backend", report.backend},
                                   {"device", report.device},
                                   {"dtype", report.dtype},
                                   {"precision", name_of(config.train.precision)},
                                   {"preset", config.model.preset},
                                   {"seq_len", config.data.seq_len},
                                   {"global_batch", config.train.global_batch},
                                   {"micro_batch", config.train.micro_batch},
                                   {"recompute", name_of(config.train.recompute)},
                                   {"steps", report.options.steps},
                                   {"warmup", report.options.warmup},
                                   {"settle_s", report.options.settle},
                                   {"ceilings",
                                    {{"matmul", ceilings.product},
                                     {"matmul_tflops", ceilings.flops_per_s / 1e12},
                                     {"matmul_rested_tflops", rested(ceilings.rested_flops_per_s, 1e-12)},
                                     {"copy", ceilings.copy},
                                     {"copy_gb_per_s", ceilings.bytes_per_s / 1e9}}},
                                   {"variants", nlohmann::ordered_json::array()},
                                   {"ops", nlohmann::ordered_json::array()}};
    for (const VariantBench& variant : report.variants) json["variants"].push_back(to_json(variant, report));
    for (const OpBench& op : report.ops) {
        nlohmann::ordered_json row = to_json(row_of(op), ceilings);
        row["shape"] = op.shape;
        row["rested_ms"] = rested(op.rested_seconds, 1e3);
        json["ops"].push_back(std::move(row));
    }
    return json;
}

std::string to_csv(const BenchReport& report) {
    const Ceilings& ceilings = report.ceilings;
    std::string text =
        "kind,variant,name,shape,calls,ms,ms_p95,share,tokens_per_s,tflops,gb_per_s,of_matmul,of_copy,"
        "peak_bytes,rested_ms\n";
    for (const VariantBench& v : report.variants) {
        BenchRow step;
        step.flops_per_s = v.flops_per_s();
        text += fmt::format("step,{},step,,1,{},{},1,{},{},{},\n", name_of(v.config.attention.variant),
                            v.median() * 1e3, v.p95() * 1e3, v.tokens_per_s(), csv_rates(step, ceilings),
                            v.peak_bytes);
        if (v.parts.seconds == 0) continue;
        for (const BenchRow& row : rows_of(v.parts))
            text += fmt::format("part,{},{},,{},{},,{},,{},,\n", name_of(v.config.attention.variant),
                                row.name, row.calls, row.seconds * 1e3, row.share, csv_rates(row, ceilings));
    }
    for (const OpBench& op : report.ops)
        text += fmt::format("op,,{},\"{}\",1,{},,,,{},,{}\n", op.op, op.shape, op.seconds * 1e3,
                            csv_rates(row_of(op), ceilings),
                            op.rested_seconds > 0 ? fmt::format("{}", op.rested_seconds * 1e3) : "");
    return text;
}

}  // namespace pastur
