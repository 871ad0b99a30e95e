#pragma once
// Spectra of a run with spikes and collapses at known layers and steps, for tests of the analysis.
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/pastur/analysis/run_statistics.h"

namespace pastur::test {

/// What happens in one form. A step of -1: never.
struct PlantedForm {
    int64_t spike = -1, spike_end = -1;  ///< beyond 10 edges from the first on, before the second
    int64_t collapse = -1;               ///< keeps `kept` from there on, else `kept_before`
    double kept = 0.05, kept_before = 1;
    double start_ratio = 0.6;  ///< lambda_max over the edge without a spike
};

struct PlantedRun {
    using Form = std::function<PlantedForm(const std::string& matrix, int64_t layer, int64_t head)>;
    std::string variant = "mha", arm = "";
    uint64_t seed = 1;
    int64_t steps = 800, layers = 8, heads = 2;
    std::vector<int64_t> measured = {0, 10, 20, 30, 40, 50, 60, 80, 100, 200, 400, 800};
    std::vector<std::string> matrices = {"qk"}, nulls = {"product", "mp"};
    std::vector<std::string> blind_nulls = {};  ///< against which nothing is beyond the edge
    bool layer_scope = true, head_scope = true;
    int version = 2;      ///< of the lines
    double noise = 0.03;  ///< relative, of every number
    double val_loss = 4;
    Form form = [](const std::string&, int64_t, int64_t) { return PlantedForm{}; };
};

/// The lines of spectra/summary.jsonl.
std::vector<nlohmann::json> planted_lines(const PlantedRun& run);
/// What the analysis makes of them.
RunStatistics planted_statistics(const PlantedRun& run);
/// Runs that differ in nothing but the seed, 1 ...
std::vector<RunStatistics> planted_seeds(PlantedRun run, uint64_t seeds);

}  // namespace pastur::test
