#include "tools/pastur/report/report_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "kernels/base/error.h"
#include "tools/pastur/report/report_run.h"

namespace pastur {
namespace {

using Place = std::pair<int64_t, int64_t>;  ///< step, layer
using Values = std::map<std::string, double>;
using Cells = std::map<Place, Values>;

constexpr const char* kMeans[] = {"entropy", "entropy_ratio", "content_share", "rope_share",
                                  "covariance_share"};
constexpr const char* kLatentMetrics[] = {"width", "entropy_rank", "participation_ratio", "rank_90",
                                          "rank_99"};
constexpr size_t kMostTensors = 16, kLongestName = 100;

/// The integer under `key`; false if there is none.
bool read_integer(const nlohmann::json& json, const char* key, int64_t& value) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number_integer()) return false;
    value = found->get<int64_t>();
    return true;
}

Values over_heads(const std::map<int64_t, nlohmann::json>& heads) {
    Values values = {{"max_logit", -INFINITY}, {"least_entropy_ratio", INFINITY}, {"rms_logit", 0}};
    const auto count = static_cast<double>(heads.size());
    for (const auto& [head, json] : heads) {
        values["max_logit"] = std::max(values["max_logit"], number_of(json, "max_logit"));
        values["least_entropy_ratio"] =
            std::min(values["least_entropy_ratio"], number_of(json, "entropy_ratio"));
        values["rms_logit"] += std::pow(number_of(json, "rms_logit"), 2) / count;
        for (const char* name : kMeans) values[name] += number_of(json, name) / count;
    }
    values["rms_logit"] = std::sqrt(values["rms_logit"]);
    return values;
}

MetricGrid make_grid(const std::string& name, const Cells& cells, const std::filesystem::path& file) {
    MetricGrid grid{name, "", false, {}, {}, {}, {-1}, {}, {}, {}};
    std::set<int64_t> steps, layers;
    std::set<std::string> metrics;
    for (const auto& [place, values] : cells) {
        steps.insert(place.first);
        layers.insert(place.second);
        for (const auto& [metric, value] : values)
            if (std::isfinite(value)) metrics.insert(metric);
    }
    grid.steps.assign(steps.begin(), steps.end());
    grid.layers.assign(layers.begin(), layers.end());
    const size_t size = steps.size() * layers.size();
    if (size > 16 * cells.size() + 4096)
        fail(ExitCode::kCorruptData, "{}: {} records of \"{}\" spread over {} cells; expected a grid",
             file.string(), cells.size(), name, size);
    const auto index = [](const std::vector<int64_t>& sorted, int64_t value) {
        return static_cast<size_t>(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin());
    };
    for (const std::string& metric : metrics) {
        std::vector<float> column(size, NAN);
        for (const auto& [place, values] : cells)
            if (const auto found = values.find(metric); found != values.end())
                column[index(grid.steps, place.first) * layers.size() + index(grid.layers, place.second)] =
                    static_cast<float>(found->second);
        grid.metrics[metric] = std::move(column);
    }
    return grid;
}

/// Calls use(record, step, layer) for every line that has both; counts the others.
void read_places(const std::filesystem::path& file, std::vector<std::string>& notes,
                 const std::function<bool(const nlohmann::json&, const Place&)>& use) {
    int64_t incomplete = 0;
    const int64_t unreadable = read_json_lines(file, [&](const nlohmann::json& json) {
        Place place;
        if (!read_integer(json, "step", place.first) || !read_integer(json, "layer", place.second) ||
            !use(json, place))
            ++incomplete;
    });
    if (unreadable + incomplete > 0)
        notes.push_back(fmt::format("spectra/{}: {} lines could not be read", file.filename().string(),
                                    unreadable + incomplete));
}

}  // namespace

std::vector<MetricGrid> read_probe_grids(const std::filesystem::path& spectra,
                                         std::vector<std::string>& notes) {
    std::vector<MetricGrid> grids;
    const std::filesystem::path logits = spectra / "logits.jsonl", latents = spectra / "latents.jsonl";
    std::map<Place, std::map<int64_t, nlohmann::json>> heads;
    read_places(logits, notes, [&](const nlohmann::json& json, const Place& place) {
        int64_t head = 0;
        if (!read_integer(json, "head", head)) return false;
        heads[place][head] = json;
        return true;
    });
    Cells cells;
    for (const auto& [place, records] : heads) cells[place] = over_heads(records);
    if (!cells.empty()) grids.push_back(make_grid("logits", cells, logits));

    std::map<std::string, Cells> tensors;
    read_places(latents, notes, [&](const nlohmann::json& json, const Place& place) {
        const auto name = json.find("tensor");
        if (name == json.end() || !name->is_string()) return false;
        const auto tensor = name->get<std::string>();
        if (tensor.size() > kLongestName || (tensors.size() >= kMostTensors && !tensors.contains(tensor)))
            return false;
        Values& values = tensors[tensor][place];
        for (const char* metric : kLatentMetrics) values[metric] = number_of(json, metric);
        return true;
    });
    for (const auto& [tensor, records] : tensors) grids.push_back(make_grid(tensor, records, latents));
    return grids;
}

}  // namespace pastur
