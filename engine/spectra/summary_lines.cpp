#include "engine/spectra/summary_lines.h"

#include <cmath>
#include <tuple>

#include "engine/io/json_text.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

bool same_matrix(const SpectrumRecord& a, const SpectrumRecord& b) {
    return std::tie(a.layer, a.head, a.matrix) == std::tie(b.layer, b.head, b.matrix);
}

void add_metrics(Json& json, const SpectrumRecord& record, bool by_null) {
    for (const MetricField& field : kMetricFields)
        if (field.by_null == by_null) json[std::string(field.name)] = record.metrics.*field.value;
}

/// The flags of a record that depend on its null, or those that do not.
Json flags_of(const SpectrumRecord& record, bool by_null) {
    Json flags = Json::array();
    for (const std::string& flag : record.flags)
        if (flag_named(flag).by_null == by_null) flags.push_back(flag);
    return flags;
}

/// What does not depend on the null.
Json shared_json(const SpectrumRecord& record, std::optional<int64_t> step) {
    Json json = {{"v", 2}};
    if (step) json["step"] = *step;
    json.update({{"layer", record.layer},
                 {"head", record.head},
                 {"matrix", record.matrix},
                 {"n", record.n},
                 {"dims", record.dims},
                 {"variance_product", record.variance_product},
                 {"flags", flags_of(record, false)}});
    add_metrics(json, record, false);
    if (record.kept_step0) json["kept_step0"] = *record.kept_step0;
    if (!record.overlap) return json;
    const auto& [before, next, random] = *record.overlap;
    if (before) json["overlap_before"] = *before;
    if (next) json["overlap_next"] = *next;
    if (random) json["overlap_random"] = *random;
    return json;
}

Json null_json(const SpectrumRecord& record) {
    Json json = Json::object();
    add_metrics(json, record, true);
    for (const auto& [matrix, chain] : record.terms)
        json["terms"].push_back(
            {{"matrix", matrix}, {"dims", chain.dims}, {"variance_product", chain.variance_product}});
    if (record.kept_null) json["kept_null"] = *record.kept_null;
    if (const Json flags = flags_of(record, true); !flags.empty()) json["flags"] = flags;
    return json;
}

std::vector<int64_t> integers_of(const Json& list) {
    std::vector<int64_t> integers;
    for (const auto& value : list)
        if (value.is_number_integer()) integers.push_back(value.get<int64_t>());
    return integers;
}

/// The record of an object in the form of "v": 1. None if it is not one.
std::optional<LoggedRecord> read_flat(const Json& line) {
    const auto has = [&](const char* key, auto is) {
        const auto found = line.find(key);
        return found != line.end() && is(*found);
    };
    const auto text = [](const auto& value) { return value.is_string(); };
    const auto integer = [](const auto& value) { return value.is_number_integer(); };
    const auto list = [](const auto& value) { return value.is_array(); };
    if (!has("step", integer) || !has("layer", integer) || !has("head", integer) || !has("matrix", text) ||
        !has("null", text))
        return {};
    LoggedRecord logged{line["step"].get<int64_t>(), {}};
    SpectrumRecord& record = logged.record;
    record.layer = line["layer"].get<int64_t>();
    record.head = line["head"].get<int64_t>();
    record.matrix = line["matrix"].get<std::string>();
    record.null = line["null"].get<std::string>();
    record.n = integer_or_minus_one(line, "n");
    if (has("dims", list))
        record.dims = integers_of(line["dims"]);
    else
        record.dims = {integer_or_minus_one(line, "rows"), integer_or_minus_one(line, "cols")};
    record.variance_product = number_or_nan(line, "variance_product");
    if (has("terms", list))
        for (const auto& term : line["terms"])
            if (term.is_object() && term.contains("matrix") && term["matrix"].is_string() &&
                term.contains("dims"))
                record.terms.emplace_back(
                    term["matrix"].get<std::string>(),
                    GaussianChain{integers_of(term["dims"]), number_or_nan(term, "variance_product")});
    if (has("flags", list))
        for (const auto& flag : line["flags"])
            if (flag.is_string()) record.flags.push_back(flag.get<std::string>());
    record.metrics.flags = record.flags;
    for (const MetricField& field : kMetricFields)
        record.metrics.*field.value = number_or_nan(line, field.name);
    const auto kept = [&](const char* key) {
        const double value = number_or_nan(line, key);
        return std::isfinite(value) ? std::optional(value) : std::nullopt;
    };
    record.kept_step0 = kept("kept_step0");
    record.kept_null = kept("kept_null");
    return logged;
}

}  // namespace

std::vector<Json> summary_lines(const std::vector<SpectrumRecord>& records, std::optional<int64_t> step) {
    std::vector<Json> lines;
    for (size_t i = 0; i < records.size();) {
        Json line = shared_json(records[i], step), nulls = Json::object(), meanings = Json::object();
        size_t end = i;
        for (; end < records.size() && same_matrix(records[i], records[end]); ++end) {
            nulls[records[end].null] = null_json(records[end]);
            for (const std::string& flag : records[end].flags) meanings[flag] = flag_named(flag).meaning;
        }
        if (!meanings.empty()) line["flag_meanings"] = std::move(meanings);
        line["nulls"] = std::move(nulls);
        lines.push_back(std::move(line));
        i = end;
    }
    return lines;
}

std::vector<LoggedRecord> read_records(const Json& line) {
    std::vector<LoggedRecord> records;
    for_each_null(line, [&](const Json& flat) {
        if (auto record = read_flat(flat)) records.push_back(*std::move(record));
    });
    return records;
}

}  // namespace pastur
