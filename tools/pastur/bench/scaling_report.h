#pragma once
// Results of `pastur bench` on several ranks as a table, JSON and CSV.
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/bench/bench_scaling.h"

namespace pastur {

struct ScalingReport {
    std::string backend;  ///< cpu or cuda
    std::string device, dtype;
    int ranks = 1, ranks_of_host = 1;
    std::string transport;                         ///< NCCL, MPI or TCP
    std::string library;                           ///< version of that library; empty: unknown, or none
    std::map<std::string, std::string> variables;  ///< NCCL_* in force, if NCCL is used
    BenchOptions options;
    Config config;  ///< the recipe; each variant has its own [attention]
    std::vector<ScalingBench> variants;
};

/// A report without results. Every rank calls it.
ScalingReport describe_ranks(Context& ctx, Comm& comm, const Config& config, const BenchOptions& options);

/// The lines before all tables: ranks, library and settings in force.
std::string ranks_text(const ScalingReport& report);
std::string scaling_text(const ScalingBench& bench);

nlohmann::ordered_json to_json(const ScalingReport& report);
/// variant, kind (alone, weak, strong), ranks, sequences, zero, comm_dtype, ms, ms_p95, tokens_per_s, efficiency,
/// silent_ms, exposed_ms, predicted_ms, predicted_exposed_ms, predicted_efficiency, planned_ms, planned_exposed_ms,
/// planned_efficiency; empty where not applicable.
std::string to_csv(const ScalingReport& report);

}  // namespace pastur
