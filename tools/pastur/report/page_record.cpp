#include "tools/pastur/report/page_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include "kernels/base/error.h"
#include "tools/pastur/report/report_blobs.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kForms[] = {"qk", "qk_content", "qk_rope"};
/// What the page's maps of capacity kept, of the spike and of outliers are drawn from.
constexpr const char* kMapMetrics[] = {"lambda_max",  "stable_rank",   "kept_null",
                                       "lambda_plus", "outlier_count", "n"};
/// Columns of the train events that the page shows, and their digits; 0: integers.
struct Column {
    const char* name;
    int digits;
};
constexpr Column kTrainColumns[] = {{"step", 0},    {"tokens", 0}, {"loss", 5},   {"tokens_per_s", 4},
                                    {"step_ms", 4}, {"mfu", 3},    {"mem_gib", 4}};
constexpr Column kValColumns[] = {{"step", 0}, {"loss", 6}, {"ppl", 6}};
constexpr size_t kCurveRows = 160;
constexpr int64_t kMostCells = 1 << 22;  ///< of a map; a damaged record asks for no more memory

bool is_kept(const std::string& matrix) {
    return std::find(std::begin(kForms), std::end(kForms), matrix) != std::end(kForms);
}

Json number_json(double value, int digits) {
    if (!std::isfinite(value)) return nullptr;
    if (digits == 0) return static_cast<int64_t>(value);
    return std::strtod(fmt::format("{:.{}g}", value, digits).c_str(), nullptr);
}

template <size_t N>
Json columns_json(const Table& table, const Column (&columns)[N]) {
    Json json = Json::object();
    for (const Column& column : columns) {
        Json& list = json[column.name] = Json::array();
        for (const double value : table[column.name]) list.push_back(number_json(value, column.digits));
    }
    return json;
}

template <size_t N>
Table read_columns(const Json& json, const Column (&columns)[N]) {
    Table table;
    for (const Column& column : columns) {
        table.names.emplace_back(column.name);
        std::vector<double>& values = table.columns.emplace_back();
        for (const Json& value : json.at(column.name))
            values.push_back(value.is_null() ? NAN : value.get<double>());
        if (values.size() != table.rows())
            fail(ExitCode::kCorruptData, "its column {} has {} values, {} has {}", column.name, values.size(),
                 columns[0].name, table.rows());
    }
    return table;
}

Json environment_json(const nlohmann::json& environment) {
    Json json = Json::object();
    for (const char* name : {"version", "backend", "device", "ranks"})
        if (environment.is_object() && environment.contains(name)) json[name] = environment.at(name);
    return json;
}

Json maps_json(const std::vector<const MetricGrid*>& grids, size_t steps, Blobs& blobs) {
    Json maps = Json::array();
    for (const MetricGrid* whole : grids) {
        const MetricGrid grid = at_steps(*whole, spread(whole->steps, steps));
        Json json = {{"matrix", grid.matrix}, {"null", grid.null},   {"steps", grid.steps},
                     {"layers", grid.layers}, {"flags", grid.flags}, {"metrics", Json::object()}};
        for (const char* name : kMapMetrics)
            if (const auto found = grid.metrics.find(name); found != grid.metrics.end())
                json["metrics"][name] = blobs.add_numbers(found->second);
        maps.push_back(std::move(json));
    }
    return maps;
}

std::vector<int64_t> ascending(const Json& json, const char* name) {
    auto list = json.at(name).get<std::vector<int64_t>>();
    if (list.empty() || std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) != list.end())
        fail(ExitCode::kCorruptData, "the {} of a map do not ascend", name);
    return list;
}

MetricGrid read_map(const Json& json, const Json& blobs) {
    MetricGrid grid;
    grid.matrix = json.at("matrix").get<std::string>();
    grid.null = json.at("null").get<std::string>();
    grid.steps = ascending(json, "steps");
    grid.layers = ascending(json, "layers");
    grid.heads = {-1};
    grid.flags = json.at("flags").get<std::map<std::string, int64_t>>();
    const size_t cells = grid.steps.size() * grid.layers.size();
    if (cells > static_cast<size_t>(kMostCells)) fail(ExitCode::kCorruptData, "a map has {} cells", cells);
    for (const auto& [name, index] : json.at("metrics").items())
        grid.metrics[name] = unpack_numbers(
            bytes_of_base64(blobs.at(index.get<size_t>()).get_ref<const std::string&>()), cells);
    return grid;
}

}  // namespace

bool is_in_page_record(const nlohmann::json& line) {
    const auto matrix = line.find("matrix"), head = line.find("head");
    return matrix != line.end() && matrix->is_string() && is_kept(matrix->get<std::string>()) &&
           head != line.end() && head->is_number_integer() && head->get<int64_t>() < 0;
}

Json page_record(const ReportRun& run, const std::vector<MetricGrid>& grids) {
    std::vector<const MetricGrid*> kept;
    size_t most = 0;
    for (const MetricGrid& grid : grids)
        if (!grid.per_head && is_kept(grid.matrix)) {
            kept.push_back(&grid);
            most = std::max(most, grid.steps.size());
        }
    Json maps, list;
    for (size_t steps = most;; steps = std::max<size_t>(2, steps * 4 / 5)) {
        Blobs blobs;
        maps = maps_json(kept, steps, blobs);
        list = blobs.json();
        if (steps <= 2 || blobs.bytes() <= kMaxMapBytes) break;
    }
    return {{"start", run.start},
            {"end", run.end},
            {"env", environment_json(run.environment)},
            {"train", columns_json(thin_table(run.train, "loss", kCurveRows), kTrainColumns)},
            {"val", columns_json(run.val, kValColumns)},
            {"onsets", run.onsets.of_layers()},
            {"maps", std::move(maps)},
            {"blobs", std::move(list)}};
}

ReportRun read_recorded_run(const std::filesystem::path& folder, const Json& page,
                            std::vector<MetricGrid>& grids) {
    ReportRun run;
    run.folder = folder;
    run.is_record = true;
    run.name = run_name(folder);
    run.config_text = read_run_text(folder / "config.toml", run);
    run.notes.push_back(
        "drawn from statistics.json, which keeps layers alone: what is about heads, eigenvalues, logits and latents is "
        "missing, and curves may have fewer steps");
    const auto refuse = [&](const char* why) {
        fail(ExitCode::kCorruptData, "{} is not the record of a run that `pastur study` writes: {}",
             record_of(folder).string(), why);
    };
    try {
        run.start = page.at("start");
        run.end = page.at("end");
        run.environment = page.at("env");
        run.train = read_columns(page.at("train"), kTrainColumns);
        run.val = read_columns(page.at("val"), kValColumns);
        run.onsets.add_layers(page.at("onsets"));
        for (const Json& map : page.at("maps")) grids.push_back(read_map(map, page.at("blobs")));
    } catch (const Json::exception& error) {
        refuse(error.what());
    } catch (const Error& error) {
        refuse(error.what());
    }
    return run;
}

}  // namespace pastur
