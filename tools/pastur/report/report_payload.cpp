// The data of the page of `pastur report`, thinned to the size of the page.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "diag/metrics.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/environment.h"
#include "kernels/base/error.h"
#include "tools/pastur/analysis/analysis.h"
#include "tools/pastur/report/page_record.h"
#include "tools/pastur/report/report_blobs.h"
#include "tools/pastur/report/report_eigenvalues.h"
#include "tools/pastur/report/report_laws.h"
#include "tools/pastur/report/report_metrics.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/report/report_probe.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kCurveRows = 9000;    ///< logged steps of all runs together
constexpr double kMetricShare = 0.45;  ///< the metrics' largest share of the budget; eigenvalues get the rest
constexpr double kProbeShare = 0.1;    ///< of logits and latents

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

Json run_json(ReportRun& run, size_t curve_rows, Blobs& blobs) {
    const Table train = thin_table(run.train, "loss", curve_rows);
    if (train.rows() < run.train.rows())
        run.notes.push_back(
            fmt::format("{} of {} logged steps are on this page, the extremes of the loss among them",
                        train.rows(), run.train.rows()));
    return {{"name", run.name},           {"record", run.is_record},    {"config", run.config_text},
            {"env", run.environment},     {"start", run.start},         {"end", run.end},
            {"train", table_json(train)}, {"val", table_json(run.val)}, {"onsets", run.onsets.json(blobs)}};
}

/// Adds to every grid of the page the law of its null: "law", an index into the list of laws that is
/// returned, or "lawByRecord", a blob of such indices.
Json add_laws(Json& runs, const std::vector<std::vector<MetricGrid>>& shown, Blobs& blobs) {
    LawCurves laws;
    for (size_t run = 0; run < shown.size(); ++run)
        for (size_t i = 0; i < shown[run].size(); ++i) {
            const GridLaws own = laws.add(shown[run][i]);
            Json& json = runs[run]["metrics"][i];
            if (own.shared) json["law"] = *own.shared;
            if (!own.by_record.empty()) json["lawByRecord"] = blobs.add_numbers(own.by_record);
        }
    Json list = Json::array();
    for (const LawCurve& curve : laws.curves())
        list.push_back({{"count", curve.count},
                        {"lower", short_number(curve.lower_edge)},
                        {"band", {short_number(curve.largest_low), short_number(curve.largest_high)}},
                        {"points", blobs.add(std::as_bytes(std::span(curve.points)))}});
    return list;
}

/// All that the page reads of one run.
struct Source {
    ReportRun run;
    RunStatistics statistics;
    std::vector<MetricGrid> grids, probes;
};

/// What the analysis needs to know of a run's recipe.
void add_recipe(RunStatistics& statistics, const ReportRun& run) {
    try {
        if (const std::string recipe = run.config_text; !recipe.empty()) {
            const Config config = parse_config(recipe, "config.toml", {});
            add_settings(statistics, config);
            statistics.variant = name_of(config.attention.variant);
        }
    } catch (const Error&) {
        // A recipe of another version: the run is analysed without its settings.
    }
    if (statistics.variant.empty()) {
        const auto variant = run.start.find("variant");
        statistics.variant = variant != run.start.end() && variant->is_string() ? *variant : "unknown";
    }
}

Source read_record_source(const std::filesystem::path& folder) {
    RunRecord record = read_run_record(record_of(folder));
    if (record.page.is_null())
        fail(
            ExitCode::kMissingInput,
            "{} was written by a former version, which kept nothing that a page draws: expected the run's metrics.jsonl "
            "next to it",
            record_of(folder).string());
    Source source;
    source.run = read_recorded_run(folder, record.page, source.grids);
    source.statistics = std::move(record.statistics);
    add_recipe(source.statistics, source.run);
    return source;
}

/// Without `analysed`, the statistics stay empty.
Source read_source(const std::filesystem::path& folder, bool analysed) {
    if (is_kept_as_record(folder)) return read_record_source(folder);
    Source source{.run = read_report_run(folder), .statistics = {}, .grids = {}, .probes = {}};
    RunSeries series;
    source.grids = read_metric_grids(folder / "spectra", source.run.notes, [&](const auto& line) {
        if (analysed) series.add(line);
    });
    series.finish();
    source.probes = read_probe_grids(folder / "spectra", source.run.notes);
    add_recipe(source.statistics, source.run);
    if (source.run.val.rows() > 0) source.statistics.val_loss = source.run.val["loss"].back();
    add_statistics(source.statistics, series);
    return source;
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

std::string utc_now() {
    std::tm utc{};
    const std::time_t now = std::time(nullptr);
    gmtime_r(&now, &utc);
    return fmt::format("{:%Y-%m-%d %H:%M} UTC", utc);
}

}  // namespace

nlohmann::ordered_json report_payload(const std::vector<std::filesystem::path>& folders, size_t budget,
                                      const ReportText& text) {
    std::vector<ReportRun> sources;
    std::vector<RunStatistics> statistics;
    std::vector<std::vector<MetricGrid>> grids, probes;
    std::vector<EigenvalueFiles> files;
    for (const std::filesystem::path& folder : folders) {
        Source source = read_source(folder, /*analysed=*/!text.analysis);
        sources.push_back(std::move(source.run));
        statistics.push_back(std::move(source.statistics));
        grids.push_back(std::move(source.grids));
        probes.push_back(std::move(source.probes));
        files.emplace_back(folder / "spectra");
    }
    make_names_unique(sources);
    for (size_t i = 0; i < sources.size(); ++i) statistics[i].name = sources[i].name;
    name_arms(statistics);
    Json analysis = text.analysis ? *text.analysis : analyse(statistics);
    Json runs = Json::array();
    Blobs blobs;
    for (ReportRun& run : sources) runs.push_back(run_json(run, kCurveRows / folders.size(), blobs));
    const auto part = [&](double share) { return static_cast<size_t>(share * static_cast<double>(budget)); };
    const auto shown = choose_metrics(std::move(grids), part(kMetricShare), sources);
    add_grids(runs, "metrics", shown, blobs);
    add_grids(runs, "probes", choose_probes(std::move(probes), part(kProbeShare), sources), blobs);
    Json laws = add_laws(runs, shown, blobs);
    std::vector<std::vector<int64_t>> measured;
    for (const auto& list : shown) measured.push_back(shown_steps(list));
    // The notes, which are added last, and the indices of the grids need some room.
    const size_t used = runs.dump(-1, ' ', false, Json::error_handler_t::replace).size() +
                        laws.dump().size() +
                        analysis.dump(-1, ' ', false, Json::error_handler_t::replace).size() + blobs.bytes() +
                        folders.size() * 4096;
    add_eigenvalues(runs, files, measured, budget > used ? budget - used : 0, blobs, sources);
    for (size_t i = 0; i < sources.size(); ++i) runs[i]["notes"] = sources[i].notes;
    Json flags = Json::object();
    for (const SpectrumFlag& flag : kSpectrumFlags) flags[std::string(flag.name)] = flag.meaning;
    Json payload = {{"version", version()},      {"date", utc_now()},
                    {"title", text.title},       {"notes", text.notes},
                    {"flags", std::move(flags)}, {"runs", std::move(runs)},
                    {"laws", std::move(laws)},   {"analysis", std::move(analysis)},
                    {"blobs", blobs.json()}};
    if (text.reload_s > 0) payload["reload"] = text.reload_s;
    return payload;
}

}  // namespace pastur
