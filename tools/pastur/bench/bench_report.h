#pragma once
// Results of `pastur bench` as tables, JSON and CSV.
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/bench/bench_ops.h"

namespace pastur {

struct BenchReport {
    std::string backend;  ///< cpu or cuda
    std::string device, dtype;
    BenchOptions options;
    Config config;  ///< the recipe; each variant has its own [attention]
    Ceilings ceilings;
    std::vector<VariantBench> variants;
    std::vector<OpBench> ops;
};

/// A row of the table of op families, or a single op. A rate is absent if its FLOPs or bytes are not counted.
struct BenchRow {
    std::string name, shape;
    int64_t calls = 0;
    double seconds = 0;
    double share = 0;  ///< of the step
    std::optional<double> flops_per_s = {}, bytes_per_s = {};
};
/// The families that ran, then "other"; their seconds sum to the step's.
std::vector<BenchRow> rows_of(const StepParts& parts);
BenchRow row_of(const OpBench& op);

std::string ceilings_text(const BenchReport& report);
std::string variant_text(const VariantBench& variant, const Ceilings& ceilings);
/// The header of a table of ops, and a line of it.
std::string ops_header(const Ceilings& ceilings);
std::string op_text(const OpBench& op, const Ceilings& ceilings);

nlohmann::ordered_json to_json(const BenchReport& report);
/// kind (step, part, op), variant, name, shape, calls, ms, ms_p95, share, tokens_per_s, tflops, gb_per_s,
/// of_matmul, of_copy, peak_bytes, rested_ms; empty where not applicable.
std::string to_csv(const BenchReport& report);

}  // namespace pastur
