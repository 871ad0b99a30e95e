// The data of the page of `pastur report`, thinned to the size of the page.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "diag/metrics.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/environment.h"
#include "kernels/base/error.h"
#include "tools/pastur/analysis/analysis.h"
#include "tools/pastur/report/report_laws.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kCurveRows = 8000;    ///< logged steps of all runs together
constexpr double kMetricShare = 0.45;  ///< the metrics' largest share of the budget; eigenvalues get the rest

/// Arrays as base64, each distinct one once: metrics of the eigenvalues alone are equal for every null.
class Blobs {
  public:
    size_t add(std::span<const std::byte> bytes) {
        std::string text = base64(bytes);
        const auto [at, added] = index_.try_emplace(std::move(text), list_.size());
        if (added) {
            list_.push_back(&at->first);
            bytes_ += at->first.size() + 3;
        }
        return at->second;
    }
    size_t bytes() const { return bytes_; }
    Json json() const {
        Json list = Json::array();
        for (const std::string* text : list_) list.push_back(*text);
        return list;
    }

  private:
    std::map<std::string, size_t> index_;
    std::vector<const std::string*> list_;
    size_t bytes_ = 0;
};

/// A number rounded to seven digits, which are more than a figure can show.
Json short_number(double value) {
    if (!std::isfinite(value)) return nullptr;
    if (value == std::floor(value) && std::abs(value) < 9e15) return static_cast<int64_t>(value);
    return std::strtod(fmt::format("{:.7g}", value).c_str(), nullptr);
}

Json table_json(const Table& table) {
    Json json = Json::object();
    for (size_t i = 0; i < table.names.size(); ++i) {
        Json column = Json::array();
        for (const double value : table.columns[i]) column.push_back(short_number(value));
        json[table.names[i]] = std::move(column);
    }
    return json;
}

Json run_json(ReportRun& run, size_t curve_rows) {
    const Table train = thin_table(run.train, "loss", curve_rows);
    if (train.rows() < run.train.rows())
        run.notes.push_back(
            fmt::format("{} of {} logged steps are on this page, the extremes of the loss among them",
                        train.rows(), run.train.rows()));
    if (run.event_count > std::ssize(run.events))
        run.notes.push_back(
            fmt::format("the first {} of {} events are on this page", run.events.size(), run.event_count));
    return {{"name", run.name},
            {"config", run.config_text},
            {"env", run.environment},
            {"start", run.start},
            {"end", run.end},
            {"train", table_json(train)},
            {"val", table_json(run.val)},
            {"events", run.events}};
}

Json grid_json(const MetricGrid& grid, Blobs& blobs) {
    Json json = {{"matrix", grid.matrix},  {"null", grid.null},     {"perHead", grid.per_head},
                 {"steps", grid.steps},    {"layers", grid.layers}, {"heads", grid.heads},
                 {"flagged", grid.flagged}};
    Json metrics = Json::object();
    for (const auto& [name, values] : grid.metrics)
        metrics[name] = blobs.add(std::as_bytes(std::span(values)));
    json["metrics"] = std::move(metrics);
    return json;
}

/// The grids of every run at `steps` measurements at most.
std::vector<Json> grids_json(const std::vector<std::vector<MetricGrid>>& runs, size_t steps, Blobs& blobs) {
    std::vector<Json> list;
    for (const std::vector<MetricGrid>& grids : runs) {
        Json json = Json::array();
        for (const MetricGrid& grid : grids)
            json.push_back(grid_json(at_steps(grid, spread(grid.steps, steps)), blobs));
        list.push_back(std::move(json));
    }
    return list;
}

/// Adds "metrics" to every run, at as many steps as `budget` allows, and returns the kept steps of each run.
std::vector<std::vector<int64_t>> add_metrics(Json& runs, const std::vector<std::vector<MetricGrid>>& grids,
                                              size_t budget, Blobs& blobs, std::vector<ReportRun>& sources) {
    size_t most = 0;
    for (const auto& list : grids)
        for (const MetricGrid& grid : list) most = std::max(most, grid.steps.size());
    size_t steps = most;
    std::vector<Json> chosen;
    for (;; steps = std::max<size_t>(2, steps * 4 / 5)) {
        Blobs trial;
        chosen = grids_json(grids, steps, trial);
        if (trial.bytes() <= budget || steps <= 2) {
            blobs = std::move(trial);
            break;
        }
    }
    std::vector<std::vector<int64_t>> kept(grids.size());
    for (size_t i = 0; i < chosen.size(); ++i) {
        runs[i]["metrics"] = std::move(chosen[i]);
        if (grids[i].empty()) continue;
        const std::vector<int64_t>& all = grids[i].front().steps;
        kept[i] = spread(all, steps);
        if (kept[i].size() < all.size())
            sources[i].notes.push_back(fmt::format(
                "metrics of {} of {} measurements are on this page; all are in spectra/summary.jsonl",
                kept[i].size(), all.size()));
    }
    return kept;
}

/// Adds to every grid of the page the law of its null: "law", an index into the list of laws that is
/// returned, or "lawByRecord", a blob of such indices.
Json add_laws(Json& runs, const std::vector<std::vector<MetricGrid>>& grids, Blobs& blobs) {
    LawCurves laws;
    for (size_t run = 0; run < grids.size(); ++run)
        for (size_t i = 0; i < grids[run].size(); ++i) {
            Json& json = runs[run]["metrics"][i];
            const GridLaws own = laws.add(at_steps(grids[run][i], json["steps"].get<std::vector<int64_t>>()));
            if (own.shared) json["law"] = *own.shared;
            if (!own.by_record.empty())
                json["lawByRecord"] = blobs.add(std::as_bytes(std::span(own.by_record)));
        }
    Json list = Json::array();
    for (const LawCurve& curve : laws.curves())
        list.push_back({{"count", curve.count},
                        {"lower", short_number(curve.lower_edge)},
                        {"band", {short_number(curve.largest_low), short_number(curve.largest_high)}},
                        {"points", blobs.add(std::as_bytes(std::span(curve.points)))}});
    return list;
}

/// The steps with eigenvalues that also have metrics on the page, which hold the null's edge; if there are
/// none, all steps with eigenvalues.
std::vector<int64_t> steps_to_show(const EigenvalueFiles& files, const std::vector<int64_t>& measured) {
    std::vector<int64_t> both;
    std::set_intersection(files.steps().begin(), files.steps().end(), measured.begin(), measured.end(),
                          std::back_inserter(both));
    return both.empty() ? files.steps() : both;
}

/// The packed spectra of one group of one run, by step.
struct PackedGroup {
    const EigenvalueGroup* group;
    std::vector<int64_t> steps;
    std::map<int64_t, std::string> bytes;  ///< by step
};

/// One kind of matrix, as whole layers and as heads, in all runs. The number of its steps on the page is one
/// for all of them, so they stay comparable.
struct Share {
    double weight = 1;
    size_t steps = 0;  ///< largest number of steps of a run
    std::vector<std::vector<PackedGroup>> runs;

    /// The size as base64.
    size_t bytes() const {
        size_t sum = 0;
        for (const auto& groups : runs)
            for (const PackedGroup& group : groups)
                for (const int64_t step : spread(group.steps, steps))
                    sum += group.bytes.at(step).size() * 4 / 3 + 3;
        return sum;
    }
};
using Shares = std::map<std::string, Share>;

/// The query-key form matters most on the page, single weights least.
double weight_of(const std::string& matrix) {
    if (matrix == "qk") return 4;
    return matrix.starts_with("qk") ? 2 : 1;
}

/// Takes steps from the kind with the most bytes per weight until all fit. When every kind is down to two
/// steps, it drops the kind of the least weight.
void fit(Shares& shares, size_t budget) {
    for (;;) {
        size_t total = 0;
        double most_bytes_per_weight = 0;
        Share* largest = nullptr;
        Share* least = nullptr;
        for (auto& [matrix, share] : shares) {
            const size_t bytes = share.bytes();
            total += bytes;
            const double bytes_per_weight = static_cast<double>(bytes) / share.weight;
            if (share.steps > 2 && bytes_per_weight > most_bytes_per_weight) {
                largest = &share;
                most_bytes_per_weight = bytes_per_weight;
            }
            if (share.steps > 0 && (!least || share.weight < least->weight)) least = &share;
        }
        if (total <= budget) return;
        if (largest)
            largest->steps -= std::max<size_t>(1, largest->steps / 16);
        else
            least->steps = 0;
    }
}

Shares pack(const std::vector<EigenvalueFiles>& runs, const std::vector<std::vector<int64_t>>& measured) {
    Shares shares;
    for (size_t run = 0; run < runs.size(); ++run) {
        const std::vector<int64_t> steps = steps_to_show(runs[run], measured[run]);
        for (const EigenvalueGroup& group : runs[run].groups()) {
            Share& share = shares[group.matrix];
            share.weight = weight_of(group.matrix);
            share.steps = std::max(share.steps, steps.size());
            share.runs.resize(runs.size());
            PackedGroup packed{&group, steps, {}};
            for (const int64_t step : packed.steps)
                packed.bytes[step] = pack_spectra(runs[run].read(group, step), group.n);
            share.runs[run].push_back(std::move(packed));
        }
    }
    return shares;
}

Json packed_json(const PackedGroup& packed, const std::vector<int64_t>& steps, Blobs& blobs) {
    std::string bytes;
    for (const int64_t step : steps) bytes += packed.bytes.at(step);
    return {{"matrix", packed.group->matrix},
            {"perHead", packed.group->per_head},
            {"layers", packed.group->layers},
            {"heads", packed.group->heads},
            {"n", packed.group->n},
            {"steps", steps},
            {"blob", blobs.add(std::as_bytes(std::span(bytes)))}};
}

/// Adds "spectra" to every run.
void add_spectra(Json& runs, const std::vector<EigenvalueFiles>& files,
                 const std::vector<std::vector<int64_t>>& measured, size_t budget, Blobs& blobs,
                 std::vector<ReportRun>& sources) {
    Shares shares = pack(files, measured);
    fit(shares, budget);
    for (Json& run : runs) run["spectra"] = Json::array();
    for (const auto& [matrix, share] : shares)
        for (size_t run = 0; run < share.runs.size(); ++run) {
            if (share.runs[run].empty()) continue;
            const std::vector<int64_t> steps = spread(share.runs[run].front().steps, share.steps);
            const size_t all = files[run].steps().size();
            if (steps.size() < all)
                sources[run].notes.push_back(
                    fmt::format("eigenvalues of {} at {} of {} measured steps are on this page", matrix,
                                steps.size(), all) +
                    "; all are in spectra/step_*.npz");
            for (const PackedGroup& packed : share.runs[run])
                if (!steps.empty()) runs[run]["spectra"].push_back(packed_json(packed, steps, blobs));
        }
}

/// What the analysis needs of a run but for its name.
RunStatistics statistics_of(const ReportRun& run, const RunSeries& series) {
    RunStatistics statistics;
    try {
        if (const std::string recipe = run.config_text; !recipe.empty()) {
            const Config config = parse_config(recipe, "config.toml", {});
            add_settings(statistics, config);
            statistics.variant = name_of(config.attention.variant);
        }
    } catch (const Error&) {
        // A recipe of another version: the run is analysed without its settings.
    }
    if (statistics.variant.empty()) statistics.variant = run.start.value("variant", std::string("unknown"));
    if (run.val.rows() > 0) statistics.val_loss = run.val["loss"].back();
    add_statistics(statistics, series);
    return statistics;
}

/// Runs whose folders have the same name are called by their paths.
void make_names_unique(std::vector<ReportRun>& runs) {
    std::map<std::string, int> count;
    for (const ReportRun& run : runs) ++count[run.name];
    std::set<std::string> taken;
    for (ReportRun& run : runs) {
        if (count[run.name] > 1) run.name = run.folder.lexically_normal().string();
        while (!taken.insert(run.name).second) run.name += "'";
    }
}

}  // namespace

nlohmann::ordered_json report_payload(const std::vector<std::filesystem::path>& folders, size_t budget,
                                      const nlohmann::ordered_json* analysis) {
    std::vector<ReportRun> sources;
    std::vector<RunStatistics> statistics;
    std::vector<std::vector<MetricGrid>> grids;
    std::vector<EigenvalueFiles> files;
    for (const std::filesystem::path& folder : folders) {
        sources.push_back(read_report_run(folder));
        RunSeries series;
        grids.push_back(read_metric_grids(folder / "spectra", sources.back().notes, [&](const auto& line) {
            if (!analysis) series.add(line);
        }));
        series.finish();
        statistics.push_back(statistics_of(sources.back(), series));
        files.emplace_back(folder / "spectra");
    }
    make_names_unique(sources);
    for (size_t i = 0; i < sources.size(); ++i) statistics[i].name = sources[i].name;
    name_arms(statistics);
    Json analysed = analysis ? *analysis : analyse(statistics);
    Json runs = Json::array();
    for (ReportRun& run : sources) runs.push_back(run_json(run, kCurveRows / folders.size()));
    Blobs blobs;
    const auto measured = add_metrics(
        runs, grids, static_cast<size_t>(kMetricShare * static_cast<double>(budget)), blobs, sources);
    Json laws = add_laws(runs, grids, blobs);
    // The notes, which are added last, and the indices of the grids need some room.
    const size_t used = runs.dump(-1, ' ', false, Json::error_handler_t::replace).size() +
                        analysed.dump(-1, ' ', false, Json::error_handler_t::replace).size() +
                        laws.dump().size() + blobs.bytes() + folders.size() * 4096;
    add_spectra(runs, files, measured, budget > used ? budget - used : 0, blobs, sources);
    for (size_t i = 0; i < sources.size(); ++i) runs[i]["notes"] = sources[i].notes;
    Json flags = Json::object();
    for (const SpectrumFlag& flag : kSpectrumFlags) flags[std::string(flag.name)] = flag.meaning;
    return {{"version", version()},    {"flags", std::move(flags)}, {"analysis", std::move(analysed)},
            {"runs", std::move(runs)}, {"laws", std::move(laws)},   {"blobs", blobs.json()}};
}

}  // namespace pastur
