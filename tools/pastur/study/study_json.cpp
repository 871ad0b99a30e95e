#include "tools/pastur/study/study_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/pastur/analysis/analysis.h"
#include "tools/pastur/analysis/intervals.h"
#include "tools/pastur/runs/run_columns.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

Json number_or_null(double value) {
    return std::isfinite(value) ? Json(value) : Json();
}

Json exact_json(const MeanAndInterval& value) {
    return {{"n", value.count},
            {"mean", number_or_null(value.mean)},
            {"low", number_or_null(value.low)},
            {"high", number_or_null(value.high)}};
}

Json run_json(const StudyCell& cell, const FinishedRuns& finished,
              const std::map<std::string, std::string>& errors) {
    Json run = {{"run", cell.name}, {"variant", cell.variant}, {"arm", cell.arm}, {"seed", cell.seed}};
    const auto found = finished.find(cell.name);
    run["done"] = found != finished.end();
    const auto error = errors.find(cell.name);
    if (error != errors.end()) run["error"] = error->second;
    run["settings"] = Json::object();
    for (const auto& [key, value] : cell.settings)
        if (key != "run.name") run["settings"][key] = value;
    if (found == finished.end()) return run;
    Json cost;
    for (const RunColumn& column : run_columns()) {
        const std::string key = column.key;
        if (key != "run" && key != "variant")
            (column.is_result ? run : cost)[key] = column.json(found->second);
    }
    run["cost"] = std::move(cost);
    return run;
}

Json group_json(const StudyCell& first, const std::vector<const RunSummary*>& runs) {
    Json group = {{"variant", first.variant}, {"arm", first.arm}, {"seeds", runs.size()}}, cost;
    for (const RunColumn& column : run_columns()) {
        if (!column.number || runs.empty()) continue;
        std::vector<double> values;
        for (const RunSummary* run : runs) values.push_back(column.number(*run));
        (column.is_result ? group : cost)[column.key] = exact_json(mean_over_seeds(values));
    }
    group["cost"] = std::move(cost);
    return group;
}

std::string shown(const Json& group, const char* figure, int digits, double factor = 1) {
    const auto found = group.find(figure);
    if (found == group.end() || found->at("mean").is_null()) return "-";
    const double mean = found->at("mean").get<double>() * factor;
    if (found->at("low").is_null()) return fmt::format("{:.{}f}", mean, digits);
    const double half = (found->at("high").get<double>() - found->at("low").get<double>()) / 2 * factor;
    return fmt::format("{:.{}f} ± {:.{}f}", mean, digits, half, digits);
}

void append_readable(const Json& json, size_t depth, std::string& text) {
    constexpr size_t kColumns = 360;  // the statistics of one threshold
    std::string line = json.dump();
    if (!json.is_structured() || depth + line.size() <= kColumns) {
        text += line;
        return;
    }
    const char* before = json.is_object() ? "{" : "[";
    for (const auto& [key, value] : json.items()) {
        text += before;
        text += '\n' + std::string(depth + 1, ' ');
        if (json.is_object()) text += Json(key).dump() + ": ";
        append_readable(value, depth + 1, text);
        before = ",";
    }
    text += '\n' + std::string(depth, ' ') + (json.is_object() ? "}" : "]");
}

}  // namespace

Json study_json(const StudyDesign& design, const FinishedRuns& finished,
                const std::map<std::string, std::string>& errors,
                const std::vector<RunStatistics>& statistics) {
    Json study = {{"v", kVersion}, {"name", design.name}, {"title", design.title}, {"notes", design.notes}};
    study["runs"] = Json::array();
    for (const StudyCell& cell : design.cells) study["runs"].push_back(run_json(cell, finished, errors));
    study["groups"] = Json::array();
    std::vector<std::pair<std::string, std::string>> seen;
    for (const StudyCell& first : design.cells) {
        const std::pair key(first.variant, first.arm);
        if (std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
        seen.push_back(key);
        std::vector<const RunSummary*> runs;
        for (const StudyCell& cell : design.cells)
            if (const auto found = finished.find(cell.name);
                found != finished.end() && std::pair(cell.variant, cell.arm) == key)
                runs.push_back(&found->second);
        study["groups"].push_back(group_json(first, runs));
    }
    study["analysis"] = analyse(statistics);
    return study;
}

std::string readable_text(const Json& json) {
    std::string text;
    append_readable(json, 0, text);
    return text + "\n";
}

std::string study_table(const Json& study) {
    std::vector<std::vector<std::string>> rows = {{"attention", "arm", "seeds", "val loss",
                                                   "kept of step 0 %", "of product %", "peak/product",
                                                   "peak/mp", "cache B", "tokens/s"}};
    for (const Json& group : study.at("groups"))
        rows.push_back({group.at("variant").get<std::string>(), group.at("arm").get<std::string>(),
                        std::to_string(group.at("seeds").get<int64_t>()), shown(group, "val_loss", 4),
                        shown(group, "kept_step0", 1, 100), shown(group, "kept_null", 1, 100),
                        shown(group, "peak_ratio_product", 2), shown(group, "peak_ratio_mp", 2),
                        shown(group, "cache_bytes_per_token", 0),
                        shown(group.at("cost"), "tokens_per_s", 0)});
    // Columns as wide as characters on the screen; "±" is two bytes.
    const auto width = [](const std::string& cell) {
        return std::count_if(cell.begin(), cell.end(), [](char c) { return (c & '\xc0') != '\x80'; });
    };
    std::string text;
    for (const auto& row : rows) {
        std::string line;
        for (size_t column = 0; column < row.size(); ++column) {
            std::ptrdiff_t widest = 0;
            for (const auto& other : rows) widest = std::max(widest, width(other[column]));
            const std::string pad(static_cast<size_t>(widest - width(row[column])), ' ');
            line += column < 2 ? row[column] + pad + "  " : pad + row[column] + "  ";
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text + "\n± half of the 95 % interval of the mean over seeds (Student's t).\n";
}

}  // namespace pastur
