#include "tools/pastur/analysis/groups.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

/// FNV-1a, so that shuffles depend on what they are for and on nothing else.
uint64_t key_of(const std::string& text) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
}

/// The value at a path of keys, whose objects are made where they are missing. (A JSON pointer would make an array for
/// a key such as "2".)
Json& at_path(Json& root, const std::string& path) {
    Json* json = &root;
    for (size_t begin = 0; begin <= path.size();) {
        const size_t end = std::min(path.find('/', begin), path.size());
        json = &(*json)[path.substr(begin, end - begin)];
        begin = end + 1;
    }
    return *json;
}

/// The least and the largest value that a figure can have, beyond which no interval goes.
std::pair<double, double> range_of(const std::string& figure) {
    const auto ends_with = [&](std::initializer_list<const char*> ends) {
        return std::any_of(ends.begin(), ends.end(), [&](const char* end) { return figure.ends_with(end); });
    };
    if (ends_with({"/measurements", "lag/0.5/steps", "lag/0.25/steps", "lag/0.1/steps"}))
        return {-INFINITY, INFINITY};
    if (ends_with({"/share", "/early_share", "/layers", "/stays", "/both", "/concentration"}) ||
        figure.find("/beyond/") != std::string::npos)
        return {0, 1};
    return {0, INFINITY};
}

Json forms_json(const RunGroup& group, const RunSeries::Key& key) {
    int64_t layers = 0, forms = 0;
    std::vector<std::string> names, places;
    const auto add = [](std::vector<std::string>& list, const std::string& name) {
        if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
    };
    for (const RunStatistics* run : group.runs) {
        const auto found = run->matrices.find(key);
        if (found == run->matrices.end()) continue;
        layers = std::max(layers, found->second.layers);
        forms = std::max(forms, found->second.forms);
        for (const std::string& name : found->second.figures.names()) add(names, name);
        for (const auto& [place, pairs] : found->second.pairs) add(places, place);
    }
    Json json = {{"layers", layers}, {"forms", forms}};
    for (const std::string& name : names)
        if (const MeanAndInterval mean = group.mean(key, name); mean.count > 0)
            at_path(json, name) = to_json(mean);
    for (const std::string& place : places) {
        const CorrelationTest test = group.correlation(key, place);
        if (test.rho.count == 0) continue;
        Json& object = at_path(json, place);
        object["rho"] = to_json(test.rho);
        object["p"] = rounded(test.p);
    }
    return json;
}

}  // namespace

bool RunGroup::has(const RunSeries::Key& key) const {
    return std::any_of(runs.begin(), runs.end(),
                       [&](const RunStatistics* run) { return run->matrices.contains(key); });
}

std::vector<double> RunGroup::values(const RunSeries::Key& key, const std::string& figure) const {
    std::vector<double> values;
    for (const RunStatistics* run : runs) {
        const auto found = run->matrices.find(key);
        values.push_back(found != run->matrices.end() ? found->second.figures[figure] : NAN);
    }
    return values;
}

MeanAndInterval RunGroup::mean(const RunSeries::Key& key, const std::string& figure) const {
    MeanAndInterval mean = mean_over_seeds(values(key, figure));
    const auto [least, most] = range_of(figure);
    mean.low = std::max(mean.low, least);
    mean.high = std::min(mean.high, most);
    return mean;
}

CorrelationTest RunGroup::correlation(const RunSeries::Key& key, const std::string& place) const {
    const auto found = correlations_.find({key, place});
    return found != correlations_.end() ? found->second : CorrelationTest{};
}

void RunGroup::test_correlations() {
    std::map<std::pair<RunSeries::Key, std::string>, std::vector<const Pairs*>> all;
    for (const RunStatistics* run : runs)
        for (const auto& [key, forms] : run->matrices)
            for (const auto& [place, pairs] : forms.pairs) all[{key, place}].push_back(&pairs);
    for (const auto& [at, pairs] : all) {
        const auto& [key, place] = at;
        const Tail tail = place.ends_with("onset_depth") ? Tail::kBoth : Tail::kUpper;
        const std::string purpose = variant + "/" + key.matrix + "/" + scope_of(key) + "/" + place;
        CorrelationTest& test = correlations_[at] = test_correlation(pairs, tail, key_of(purpose));
        test.rho.low = std::max(test.rho.low, -1.0);
        test.rho.high = std::min(test.rho.high, 1.0);
    }
}

std::vector<double> RunGroup::val_losses() const {
    std::vector<double> losses;
    for (const RunStatistics* run : runs) losses.push_back(run->val_loss);
    return losses;
}

std::vector<RunGroup> group_runs(const std::vector<RunStatistics>& runs) {
    std::vector<RunGroup> groups;
    for (const RunStatistics& run : runs) {
        const auto found = std::find_if(groups.begin(), groups.end(), [&](const RunGroup& group) {
            return group.variant == run.variant && group.arm == run.arm;
        });
        RunGroup& group = found != groups.end() ? *found : groups.emplace_back();
        group.variant = run.variant;
        group.arm = run.arm;
        group.runs.push_back(&run);
    }
    for (RunGroup& group : groups) group.test_correlations();
    return groups;
}

Json to_json(const RunGroup& group) {
    Json names = Json::array();
    int64_t steps = 0, early = 0, measurements = 0;
    for (const RunStatistics* run : group.runs) {
        names.push_back(run->name);
        steps = std::max(steps, run->steps);
        early = std::max(early, run->early_steps());
        measurements = std::max(measurements, run->measurements);
    }
    Json json = {{"variant", group.variant},
                 {"arm", group.arm},
                 {"seeds", group.runs.size()},
                 {"runs", std::move(names)},
                 {"steps", steps},
                 {"early_steps", early},
                 {"measurements", measurements},
                 {"val_loss", to_json(mean_over_seeds(group.val_losses()), kLossDigits)},
                 {"matrices", Json::object()}};
    for (const RunSeries::Key& key : keys_of(group))
        json["matrices"][key.matrix][scope_of(key)] = forms_json(group, key);
    return json;
}

std::string scope_of(const RunSeries::Key& key) {
    return key.per_head ? "head" : "layer";
}

std::vector<RunSeries::Key> keys_of(const RunGroup& group) {
    std::vector<RunSeries::Key> keys;
    for (const char* matrix : kAnalysedMatrices)
        for (const bool per_head : {false, true})
            if (const RunSeries::Key key{matrix, per_head}; group.has(key)) keys.push_back(key);
    return keys;
}

std::vector<std::string> nulls_of(const RunGroup& group, const RunSeries::Key& key) {
    std::vector<std::string> nulls;
    for (const char* null : kAnalysedNulls) {
        const std::string prefix = std::string("nulls/") + null + "/";
        const auto names_null = [&](const std::string& name) { return name.starts_with(prefix); };
        if (std::any_of(group.runs.begin(), group.runs.end(), [&](const RunStatistics* run) {
                const auto found = run->matrices.find(key);
                if (found == run->matrices.end()) return false;
                const auto& names = found->second.figures.names();
                return std::any_of(names.begin(), names.end(), names_null);
            }))
            nulls.emplace_back(null);
    }
    return nulls;
}

}  // namespace pastur
