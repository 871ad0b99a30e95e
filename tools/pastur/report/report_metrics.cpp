#include "tools/pastur/report/report_metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

/// What the first screen, its table and the spectra are drawn from.
bool is_essential(std::string_view metric) {
    constexpr std::string_view kNames[] = {"lambda_max",  "lambda_plus", "bulk_edge", "outlier_count",
                                           "stable_rank", "kept_null",   "n"};
    return std::find(std::begin(kNames), std::end(kNames), metric) != std::end(kNames);
}
/// Metrics that each null has of its own; the others are equal for all nulls of a matrix and take their room once.
bool is_by_null(std::string_view metric) {
    constexpr std::string_view kNames[] = {"lambda_plus",   "lambda_minus",   "bulk_edge",      "sigma2",
                                           "outlier_count", "outlier_energy", "outliers_below", "ks"};
    return std::find(std::begin(kNames), std::end(kNames), metric) != std::end(kNames);
}
bool is_form(const std::string& matrix) {
    return matrix.starts_with("qk") && (matrix.find('@') == std::string::npos || matrix.ends_with("@mean"));
}

/// The largest numbers of steps, and whether all metrics are shown.
struct Detail {
    size_t layer_steps;
    bool all_of_layers;
    size_t head_steps;
    bool all_of_heads;
    size_t other_steps;  ///< of single weights, single pairs of positions and value-output forms

    size_t steps(const MetricGrid& grid) const {
        return !is_form(grid.matrix) ? other_steps : grid.per_head ? head_steps : layer_steps;
    }
    bool shows(const MetricGrid& grid, std::string_view metric) const {
        if (!is_form(grid.matrix) || (grid.per_head ? all_of_heads : all_of_layers)) return true;
        return is_essential(metric);
    }
};
constexpr size_t kAll = SIZE_MAX;
/// From the most detailed to the least.
constexpr Detail kDetails[] = {
    {kAll, true, kAll, true, kAll}, {kAll, true, kAll, true, 24}, {kAll, true, 60, true, 12},
    {kAll, true, 60, false, 8},     {kAll, true, 30, false, 4},   {120, true, 20, false, 2},
    {90, true, 16, false, 2},       {90, false, 16, false, 2},    {90, false, 12, false, 0},
    {90, false, 8, false, 0},       {90, false, 5, false, 0},     {60, false, 4, false, 0},
    {60, false, 3, false, 0},       {40, false, 2, false, 0},     {40, false, 0, false, 0},
    {24, false, 0, false, 0},       {12, false, 0, false, 0},     {6, false, 0, false, 0},
    {4, false, 0, false, 0},        {2, false, 0, false, 0}};

/// The bytes that the grids would take.
size_t size_of(const RunGrids& runs, const Detail& detail) {
    size_t sum = 0;
    for (const std::vector<MetricGrid>& grids : runs) {
        std::set<std::pair<std::string, bool>> seen;
        for (const MetricGrid& grid : grids) {
            const bool first = seen.insert({grid.matrix, grid.per_head}).second;
            const size_t steps = std::min(detail.steps(grid), grid.steps.size());
            for (const auto& [name, values] : grid.metrics)
                if (steps > 0 && name != "n" && detail.shows(grid, name) && (first || is_by_null(name)))
                    sum += packed_size(steps * grid.layers.size() * grid.heads.size());
        }
    }
    return sum;
}

/// Notes the numbers of shown steps that are not all, with the matrices they are of.
void note_steps(const std::map<std::pair<size_t, size_t>, std::set<std::string>>& thinned, const char* where,
                ReportRun& run) {
    for (const auto& [steps, matrices] : thinned) {
        std::string names;
        for (const std::string& name : matrices) names += (names.empty() ? "" : ", ") + name;
        run.notes.push_back(
            fmt::format("metrics of {} at {} of {} measurements are on this page; all are in {}", names,
                        steps.first, steps.second, where));
    }
}

}  // namespace

RunGrids choose_metrics(RunGrids runs, size_t budget, std::vector<ReportRun>& sources) {
    const Detail* detail = std::find_if(std::begin(kDetails), std::end(kDetails) - 1,
                                        [&](const Detail& one) { return size_of(runs, one) <= budget; });
    RunGrids chosen;
    for (size_t run = 0; run < runs.size(); ++run) {
        std::map<std::pair<size_t, size_t>, std::set<std::string>> thinned;
        bool metrics_left_out = false;
        chosen.emplace_back();
        for (MetricGrid& grid : runs[run]) {
            const size_t all = grid.steps.size(), steps = std::min(detail->steps(grid), all);
            if (steps < all) thinned[{steps, all}].insert(grid.matrix + (grid.per_head ? " by head" : ""));
            if (steps == 0) continue;
            metrics_left_out =
                std::erase_if(grid.metrics,
                              [&](const auto& metric) { return !detail->shows(grid, metric.first); }) > 0 ||
                metrics_left_out;
            chosen.back().push_back(at_steps(grid, spread(grid.steps, steps)));
        }
        note_steps(thinned, "spectra/summary.jsonl", sources[run]);
        if (metrics_left_out)
            sources[run].notes.push_back(
                "only the kept rank, largest eigenvalue, edges and outliers of some matrices are on this page; all "
                "metrics are in spectra/summary.jsonl");
    }
    return chosen;
}

RunGrids choose_probes(RunGrids runs, size_t budget, std::vector<ReportRun>& sources) {
    size_t most = 0;
    for (const auto& grids : runs)
        for (const MetricGrid& grid : grids) most = std::max(most, grid.steps.size());
    const auto size_at = [&](size_t steps) {
        size_t sum = 0;
        for (const auto& grids : runs)
            for (const MetricGrid& grid : grids)
                sum += grid.metrics.size() *
                       packed_size(std::min(steps, grid.steps.size()) * grid.layers.size());
        return sum;
    };
    size_t steps = most;
    while (steps > 2 && size_at(steps) > budget) steps = std::max<size_t>(2, steps * 4 / 5);
    for (size_t run = 0; run < runs.size(); ++run) {
        std::map<std::pair<size_t, size_t>, std::set<std::string>> thinned;
        for (MetricGrid& grid : runs[run]) {
            if (grid.steps.size() > steps) thinned[{steps, grid.steps.size()}].insert(grid.matrix);
            grid = at_steps(grid, spread(grid.steps, steps));
        }
        note_steps(thinned, "spectra/logits.jsonl and latents.jsonl", sources[run]);
    }
    return runs;
}

std::vector<int64_t> shown_steps(const std::vector<MetricGrid>& grids) {
    std::set<int64_t> steps;
    for (const MetricGrid& grid : grids)
        if (is_form(grid.matrix)) steps.insert(grid.steps.begin(), grid.steps.end());
    return {steps.begin(), steps.end()};
}

void add_grids(Json& runs, const char* key, const RunGrids& grids, Blobs& blobs) {
    for (size_t run = 0; run < grids.size(); ++run) {
        Json list = Json::array();
        for (const MetricGrid& grid : grids[run]) {
            Json json = {{"matrix", grid.matrix}, {"null", grid.null},     {"perHead", grid.per_head},
                         {"steps", grid.steps},   {"layers", grid.layers}, {"heads", grid.heads},
                         {"flags", grid.flags}};
            json["metrics"] = Json::object();
            for (const auto& [name, values] : grid.metrics) json["metrics"][name] = blobs.add_numbers(values);
            list.push_back(std::move(json));
        }
        runs[run][key] = std::move(list);
    }
}

}  // namespace pastur
