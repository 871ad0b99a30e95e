#include "tools/pastur/study/study_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "tools/pastur/run_columns.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;

/// The 97.5 % quantile of Student's t distribution with `freedom` degrees of freedom.
double student_t(int64_t freedom) {
    constexpr std::array kQuantiles = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060,
                                       2.2622,  2.2281, 2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199,
                                       2.1098,  2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639,
                                       2.0595,  2.0555, 2.0518, 2.0484, 2.0452, 2.0423};
    if (freedom <= std::ssize(kQuantiles)) return kQuantiles[static_cast<size_t>(freedom - 1)];
    // Cornish and Fisher's expansion around the normal quantile z, exact to 1e-4 from 30 degrees on.
    constexpr double z = 1.959964;
    const auto n = static_cast<double>(freedom);
    return z + (z * z * z + z) / (4 * n) + (5 * std::pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n);
}

Json number_or_null(double value) {
    return std::isfinite(value) ? Json(value) : Json();
}

Json to_json(const MeanAndInterval& value) {
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
        (column.is_result ? group : cost)[column.key] = to_json(mean_over_seeds(values));
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

}  // namespace

MeanAndInterval mean_over_seeds(std::span<const double> values) {
    MeanAndInterval result;
    double sum = 0;
    for (const double value : values)
        if (std::isfinite(value)) {
            sum += value;
            ++result.count;
        }
    if (result.count == 0) return result;
    const auto n = static_cast<double>(result.count);
    result.mean = sum / n;
    if (result.count == 1) return result;
    double squares = 0;
    for (const double value : values)
        if (std::isfinite(value)) squares += (value - result.mean) * (value - result.mean);
    const double half = student_t(result.count - 1) * std::sqrt(squares / (n - 1) / n);
    result.low = result.mean - half;
    result.high = result.mean + half;
    return result;
}

Json study_json(const StudyDesign& design, const FinishedRuns& finished,
                const std::map<std::string, std::string>& errors) {
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
    return study;
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
