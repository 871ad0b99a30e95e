#include "tests/support/planted_run.h"

#include <algorithm>
#include <random>

namespace pastur::test {
namespace {

using nlohmann::json;

constexpr double kStableRank = 30, kEdge = 2.5, kPeak = 25;

/// A line in the form of "v": 2.
json planted_line(const PlantedRun& run, int64_t step, const std::string& matrix, int64_t layer, int64_t head,
                  std::mt19937_64& random) {
    // The distributions of the standard library differ between its versions; the tests hold with any.
    std::normal_distribution<double> normal;
    const auto noisy = [&](double value) { return value * std::exp(run.noise * normal(random)); };
    const PlantedForm form = run.form(matrix, layer, head);
    const bool spikes =
        form.spike >= 0 && step >= form.spike && (form.spike_end < 0 || step < form.spike_end);
    const bool collapsed = form.collapse >= 0 && step >= form.collapse;
    const double lambda_max = noisy(kEdge * (spikes ? kPeak : form.start_ratio));
    const double kept = step == 0 ? 1 : noisy(collapsed ? form.kept : form.kept_before);
    json line = {{"v", 2},
                 {"step", step},
                 {"layer", layer},
                 {"head", head},
                 {"matrix", matrix},
                 {"n", 16},
                 {"dims", {32, 16, 32}},
                 {"flags", json::array()},
                 {"lambda_max", lambda_max},
                 {"stable_rank", kStableRank * kept},
                 {"kept_step0", kept}};
    for (const std::string& null : run.nulls) {
        const bool blind =
            std::find(run.blind_nulls.begin(), run.blind_nulls.end(), null) != run.blind_nulls.end();
        const double edge = blind ? 2 * kPeak * kEdge : kEdge;
        line["nulls"][null] = {{"lambda_plus", edge},
                               {"mp_gap_ratio", lambda_max / edge},
                               {"outlier_count", lambda_max > edge ? 1 : 0}};
        if (null == "product") line["nulls"][null]["kept_null"] = 0.9 * kept;
    }
    return line;
}

/// The lines in the form of "v": 1: a line for each null, without kept ranks.
std::vector<json> as_version_1(const json& line) {
    std::vector<json> lines;
    for (const auto& [null, own] : line["nulls"].items()) {
        json flat = line;
        flat.erase("nulls");
        flat.erase("kept_step0");
        flat.update(own);
        flat.erase("kept_null");
        flat["null"] = null;
        flat["v"] = 1;
        lines.push_back(std::move(flat));
    }
    return lines;
}

}  // namespace

std::vector<json> planted_lines(const PlantedRun& run) {
    std::vector<json> lines;
    const std::string name = run.variant + "/" + run.arm + "/" + std::to_string(run.seed);
    std::seed_seq seed(name.begin(), name.end());
    std::mt19937_64 random(seed);
    for (const int64_t step : run.measured)
        for (const std::string& matrix : run.matrices)
            for (int64_t layer = 0; layer < run.layers; ++layer)
                for (int64_t head = run.layer_scope ? -1 : 0; head < (run.head_scope ? run.heads : 0);
                     ++head) {
                    const json line = planted_line(run, step, matrix, layer, head, random);
                    if (run.version == 2)
                        lines.push_back(line);
                    else
                        for (json& flat : as_version_1(line)) lines.push_back(std::move(flat));
                }
    return lines;
}

RunStatistics planted_statistics(const PlantedRun& run) {
    RunSeries series;
    for (const json& line : planted_lines(run)) series.add(line);
    series.finish();
    RunStatistics statistics;
    statistics.name = run.variant + (run.arm.empty() ? "" : "-" + run.arm) + "-s" + std::to_string(run.seed);
    statistics.variant = run.variant;
    statistics.arm = run.arm;
    statistics.steps = run.steps;
    statistics.val_loss = run.val_loss;
    add_statistics(statistics, series);
    return statistics;
}

std::vector<RunStatistics> planted_seeds(PlantedRun run, uint64_t seeds) {
    std::vector<RunStatistics> runs;
    for (run.seed = 1; run.seed <= seeds; ++run.seed) runs.push_back(planted_statistics(run));
    return runs;
}

}  // namespace pastur::test
