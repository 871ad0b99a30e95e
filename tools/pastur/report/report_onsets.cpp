#include "tools/pastur/report/report_onsets.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/pastur/report/report_run.h"

namespace pastur {
namespace {

constexpr size_t kMostGrids = 512, kMostPlaces = 1 << 14, kLongestName = 100;

/// The forms a reader asks about: query-key forms, but not those of single pairs of positions, and value-output forms.
bool is_shown(const std::string& matrix) {
    const bool form = matrix.starts_with("qk") || matrix.starts_with("ov");
    return form && (matrix.find('@') == std::string::npos || matrix.ends_with("@mean"));
}

size_t index_in(const std::vector<int64_t>& sorted, int64_t value) {
    return static_cast<size_t>(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin());
}

}  // namespace

void Onsets::add(const nlohmann::json& event) {
    const auto text = [&](const char* key) {
        const auto found = event.find(key);
        return found != event.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    const auto integer = [&](const char* key, int64_t otherwise) {
        const auto found = event.find(key);
        return found != event.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
    };
    const std::string kind = text("event"), matrix = text("matrix");
    const int64_t step = integer("onset", integer("step", -1)), layer = integer("layer", -1);
    if (step < 0 || layer < 0 || matrix.size() > kLongestName || !is_shown(matrix)) return;
    const double threshold = number_of(event, "threshold");
    const std::string null = kind == "spike" ? text("null").substr(0, kLongestName) : "";
    const Key key{kind, matrix, null, std::isfinite(threshold) ? threshold : 0};
    if (grids_.size() >= kMostGrids && !grids_.contains(key)) return;
    auto& places = grids_[key];
    if (places.size() < kMostPlaces) places[{layer, integer("head", -1)}] = step;
}

nlohmann::ordered_json Onsets::of_layers() const {
    auto onsets = nlohmann::ordered_json::object();
    for (const auto& [key, places] : grids_) {
        const auto& [kind, matrix, null, threshold] = key;
        auto steps = nlohmann::ordered_json::array();
        for (const auto& [place, step] : places) {
            if (place.second >= 0 || place.first >= static_cast<int64_t>(kMostPlaces)) continue;
            while (steps.size() < static_cast<size_t>(place.first)) steps.push_back(nullptr);
            steps.push_back(step);
        }
        if (!steps.empty()) onsets[kind][matrix][null][fmt::format("{}", threshold)] = std::move(steps);
    }
    return onsets;
}

void Onsets::add_layers(const nlohmann::ordered_json& onsets) {
    for (const auto& [kind, matrices] : onsets.items())
        for (const auto& [matrix, nulls] : matrices.items())
            for (const auto& [null, thresholds] : nulls.items())
                for (const auto& [threshold, steps] : thresholds.items())
                    for (size_t layer = 0; layer < steps.size(); ++layer)
                        if (!steps.at(layer).is_null())
                            add({{"event", kind},
                                 {"matrix", matrix},
                                 {"null", null},
                                 {"threshold", std::strtod(threshold.c_str(), nullptr)},
                                 {"layer", layer},
                                 {"onset", steps.at(layer).get<int64_t>()}});
}

nlohmann::ordered_json Onsets::json(Blobs& blobs) const {
    auto list = nlohmann::ordered_json::array();
    for (const auto& [key, places] : grids_) {
        std::set<int64_t> steps, layers, heads;
        for (const auto& [place, step] : places) {
            layers.insert(place.first);
            heads.insert(place.second);
            steps.insert(step);
        }
        const std::vector<int64_t> rows(layers.begin(), layers.end()), columns(heads.begin(), heads.end()),
            onsets(steps.begin(), steps.end());
        if (rows.size() * columns.size() > 16 * places.size() + 4096) continue;  // a damaged log
        std::vector<float> indices(rows.size() * columns.size(), NAN);
        for (const auto& [place, step] : places)
            indices[index_in(rows, place.first) * columns.size() + index_in(columns, place.second)] =
                static_cast<float>(index_in(onsets, step));
        const auto& [kind, matrix, null, threshold] = key;
        list.push_back({{"kind", kind},
                        {"matrix", matrix},
                        {"null", null},
                        {"threshold", threshold},
                        {"layers", rows},
                        {"heads", columns},
                        {"steps", onsets},
                        {"blob", blobs.add_numbers(indices)}});
    }
    return list;
}

}  // namespace pastur
